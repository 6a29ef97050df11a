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
    """Two categories, named as BTAD's: 02 holds both kinds of image, and its masks are of the other kind."""
    for category, kinds, mask_kinds in (("01", ("bmp",), ("png",)), ("02", ("png", "bmp"), ("bmp", "png"))):
        random = np.random.default_rng(int(category))
        for folder, count in (("train/ok", 12), ("test/ok", 4), ("test/ko", 4)):
            for number in range(count):
                ramp = np.linspace(40, 120, SIDE)[None, :, None] + np.zeros((SIDE, SIDE, 3))
                pixels = ramp + random.normal(0, 8, ramp.shape)
                if folder == "test/ko":
                    mask = np.zeros((SIDE, SIDE), np.uint8)
                    top, left = random.integers(8, SIDE - 28, 2)
                    mask[top : top + 20, left : left + 20] = 255
                    pixels[mask > 0] = 255 - pixels[mask > 0] / 2
                    kind = mask_kinds[number % len(mask_kinds)]
                    save(mask, root / category / f"ground_truth/ko/{number:04}.{kind}")
                kind = kinds[number % len(kinds)]
                save(pixels.clip(0, 255).astype(np.uint8), root / category / folder / f"{number:04}.{kind}")


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.slow
@pytest.mark.server
def test_a_set_laid_out_as_btad_goes_through_the_whole_flow(make_project) -> None:
    project = make_project(dents=False)
    write_btad(project.root / "data" / "btad")
    project.dvc("add", "-q", "data/btad")
    for name, value in (("dataset", "btad"), ("root", "data/btad"), ("categories", ["01", "02"])):
        project.set(f"pipeline.{name}", value)
    rows = train(project=project.root)
    assert [row["category"] for row in rows] == ["01", "02"]
    for category in ("01", "02"):
        folder = project.root / "outputs/btad" / category
        table = pd.read_parquet(folder / "validate/manifest.parquet")
        assert set(table["layout"]) == {"btad"}
        defects = table[table["defect_type"] == "ko"]
        assert len(defects) == 4
        for row in defects.itertuples():
            assert row.mask_path.startswith("ground_truth/ko/")
            assert Path(row.mask_path).suffix != Path(row.path).suffix
        report = json.loads((folder / "validate/report.json").read_text())
        assert report["problems"] == []
        metrics = json.loads((folder / NET / "evaluate/metrics.json").read_text())
        assert (metrics["n_train"], metrics["n_test"]) == (12, 8)
        assert metrics["image_auroc"] > 0.9
        assert metrics["pixel_auroc"] > 0.8
    assert "up to date" in project.dvc("status")
    assert "Running stage" not in project.dvc("repro")
