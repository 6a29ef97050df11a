"""What a detector loses when images are disturbed: the same bytes for all, drops against the plain images."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch.cli.robustness_command import robustness
from reconpatch.data.manifest import build_manifest
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import DataError
from reconpatch.evaluation import corruptions
from reconpatch.evaluation.corruptions import CORRUPTIONS, Corruption
from reconpatch.evaluation.robustness import UNDISTURBED, measure_robustness
from reconpatch.settings import DataSettings, load_settings

SIDE = 64
SETTINGS = load_settings(None, {"features.image_size": SIDE})


class Brightness:
    """Scores a picture by its brightest pixel; its map is the picture."""

    settings = SETTINGS
    calibration = None
    region = None
    training_set = TrainingSet.from_pairs([("00", "elsewhere")], [], 0)

    def __init__(self):
        self.seen = []

    def stream(self, images):
        for image in images:
            self.seen.append(image.tobytes())
            grey = image[:, :, 0].astype(np.float32)
            yield type("Prediction", (), {"score": grey.max(), "anomaly_map": grey})


@pytest.fixture
def table(tmp_path) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 2), ("test/good", 4), ("test/spot", 4)):
        (tmp_path / "part" / where).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(90, 110, (SIDE, SIDE)).astype(np.uint8)
            if where == "test/spot":
                image[30:40, 30:40] = 200
                mask = np.zeros((SIDE, SIDE), np.uint8)
                mask[30:40, 30:40] = 255
                (tmp_path / "part/ground_truth/spot").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(tmp_path / f"part/ground_truth/spot/{number}_mask.png")
            Image.fromarray(image).save(tmp_path / "part" / where / f"{number}.png")
    return build_manifest(tmp_path / "part", DataSettings())


def black(image, mask, _):
    return np.zeros_like(image), mask


def test_each_detector_sees_the_same_bytes_and_drops_are_against_the_plain_images(table):
    detectors = {"a": Brightness(), "b": Brightness()}
    rows = measure_robustness(detectors, table, SETTINGS, [CORRUPTIONS[0], Corruption("black", "all", black)])
    assert detectors["a"].seen == detectors["b"].seen
    assert [(row.detector, row.corruption) for row in rows[:3]] == [
        ("a", UNDISTURBED), ("a", "rotation"), ("a", "black"),
    ]  # fmt: skip
    assert rows[0].figures == (1.0, 1.0, 1.0)
    assert rows[1].figures[1] > 0.95, "the mask was turned with its image"
    assert rows[2].figures[0] == 0.5
    assert rows[2].drops[0] == pytest.approx(0.5)


def test_an_image_whose_label_a_person_contradicts_is_left_out(table):
    table.loc[table["path"] == "test/good/0.png", "verdict"] = "bad"
    detector = Brightness()
    measure_robustness({"a": detector}, table, SETTINGS, [])
    assert len(detector.seen) == 7


def test_without_masks_pixel_figures_are_not_available(table):
    rows = measure_robustness({"a": Brightness()}, table.assign(mask_path=pd.NA), SETTINGS, [])
    assert rows[0].figures == (1.0, None, None)


def test_good_images_alone_are_refused(table):
    with pytest.raises(DataError, match="needs good and defective test images"):
        measure_robustness({"a": Brightness()}, table[table["label"] == 0], SETTINGS)


def test_a_new_corruption_is_one_entry_that_the_command_line_shows(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corruptions, "CORRUPTIONS", (CORRUPTIONS[3], Corruption("dust", "3 specks", black)))
    monkeypatch.setattr("reconpatch.loading.load", lambda *_, **__: Brightness())
    robustness(Path(table.attrs["root"]), ["a"], json_file=tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["corruption"] for row in rows] == [UNDISTURBED, "blur", "dust"]
    assert "dust 3 specks" in capsys.readouterr().out
