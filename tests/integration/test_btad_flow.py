"""A set laid out as BTAD (bmp and png mixed, masks with another ending than their image) through the flow."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.train import train

NET = "tf_efficientnet_lite0"
SIDE = 72


def write_btad(root: Path) -> None:
    """A category named as BTAD's, whose masks are of the other kind than their image."""
    random, kinds = np.random.default_rng(0), ("png", "bmp")
    for folder, count in (("train/ok", 12), ("test/ok", 4), ("test/ko", 4)):
        for number in range(count):
            ramp = np.linspace(40, 120, SIDE)[None, :, None] + np.zeros((SIDE, SIDE, 3))
            pixels = ramp + random.normal(0, 8, ramp.shape)
            if folder == "test/ko":
                mask = np.zeros((SIDE, SIDE), np.uint8)
                top, left = random.integers(8, SIDE - 28, 2)
                mask[top : top + 20, left : left + 20] = 255
                pixels[mask > 0] = 255 - pixels[mask > 0] / 2
                save(mask, root / f"02/ground_truth/ko/{number:04}.{kinds[number % 2 - 1]}")
            save(pixels.clip(0, 255).astype(np.uint8), root / f"02/{folder}/{number:04}.{kinds[number % 2]}")


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.slow
@pytest.mark.server
def test_a_set_laid_out_as_btad_goes_through_the_whole_flow(make_project) -> None:
    project = make_project(dents=False)
    write_btad(project.root / "data" / "btad")
    project.dvc("add", "-q", "data/btad")
    for name, value in (("dataset", "btad"), ("root", "data/btad"), ("categories", ["02"])):
        project.set(f"pipeline.{name}", value)
    (row,) = train(project=project.root)
    assert row["category"] == "02"
    folder = project.root / "outputs/btad/02"
    table = pd.read_parquet(folder / "validate/manifest.parquet")
    assert set(table["layout"]) == {"btad"}
    defects = table[table["defect_type"] == "ko"]
    assert len(defects) == 4
    for defect in defects.itertuples():
        assert defect.mask_path.startswith("ground_truth/ko/")
        assert Path(defect.mask_path).suffix != Path(defect.path).suffix
    report = json.loads((folder / "validate/report.json").read_text())
    assert {problem["expectation"] for problem in report["problems"]} <= {"looks_usual"}
    metrics = json.loads((folder / NET / "evaluate/metrics.json").read_text())
    assert (metrics["n_train"], metrics["n_test"]) == (12, 8)
    assert metrics["image_auroc"] > 0.9
    assert metrics["pixel_auroc"] > 0.8
    assert "up to date" in project.dvc("status")
