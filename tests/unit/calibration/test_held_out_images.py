"""What a detector keeps of its held-out images: scored by itself, measured as the manifest measures."""

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.calibration import held_out_images
from reconpatch.calibration.held_out_images import held_out_table, image_statistics_of, read_held_out
from reconpatch.data.images import probe_image
from reconpatch.errors import ModelError
from reconpatch.storage.detector_config import HELD_OUT

PARAMS = {
    "features.image_size": 64,
    "modulation.enabled": False,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.3,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "nut"
    (folder / "train/good").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(12):
        pixels = random.integers(80, 150, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"train/good/{number:02}.png")
    return folder


@pytest.fixture(scope="module")
def detector(images):
    return ReConPatch(params=PARAMS).fit(images)


def test_they_are_those_that_fit_nothing_scored_by_the_detector_that_ships(
    images, detector, tmp_path
) -> None:
    detector.save(tmp_path / "m")
    table = read_held_out(tmp_path / "m" / HELD_OUT)
    assert set(table["image_sha256"]) == set(detector.training_set.holdout)
    paths = {probe_image(path).sha256: path for path in sorted((images / "train/good").iterdir())}
    for _, row in table.iterrows():
        (seen,) = ReConPatch.load(tmp_path / "m", threads=1).predict(paths[row["image_sha256"]])
        assert row["score"] == pytest.approx(seen.score)
        np.testing.assert_array_equal(row["embedding"], seen.embedding)
        probe = probe_image(paths[row["image_sha256"]])
        statistics = tuple(row[list(held_out_images.IMAGE_STATISTICS)])
        assert statistics == (probe.brightness, probe.contrast, probe.sharpness)


def test_an_update_that_cannot_calibrate_anew_has_none_and_says_of_whom_the_old_ones_were(
    images, detector, tmp_path
) -> None:
    updated = ReConPatch.of_parts(detector.parts, device="cpu", threads=1)
    new = tmp_path / "new.png"
    Image.fromarray(np.random.default_rng(9).integers(80, 150, (64, 64, 3)).astype(np.uint8)).save(new)
    updated.update([new])
    assert updated.calibration.carried_over
    assert updated.calibration.held_out is None
    again = ReConPatch.of_parts(detector.parts, device="cpu", threads=1)
    again.update([new], earlier=images)
    assert set(again.calibration.held_out["image_sha256"]) == set(again.training_set.holdout)
    assert again.calibration.held_out[list(held_out_images.IMAGE_STATISTICS)].notna().all(axis=None)


def test_crossfitted_scores_are_none_of_the_detector_that_ships(images) -> None:
    crossfit = {**PARAMS, "calibrate.calibration": "crossfit", "calibrate.folds": 2}
    assert ReConPatch(params=crossfit).fit(images).calibration.held_out is None


def test_of_very_many_a_sample_that_no_order_changes(monkeypatch) -> None:
    monkeypatch.setattr(held_out_images, "_MOST", 3)
    digests = list("edcba")
    given = (digests, digests, np.arange(5.0), np.zeros((5, 2), np.float16), {"a": (1.0, 2.0, 3.0)})
    table = held_out_table(*given)
    turned = held_out_table(*(one[::-1] for one in given[:4]), given[4])
    assert list(table["image_sha256"]) == list(turned["image_sha256"]) == ["a", "b", "c"]
    assert list(table["score"]) == [4.0, 3.0, 2.0]
    assert image_statistics_of(table) == {"a": (1.0, 2.0, 3.0)}


def test_a_damaged_table_is_one_clear_error(detector, tmp_path) -> None:
    detector.save(tmp_path / "m")
    (tmp_path / "m" / HELD_OUT).write_bytes(b"PAR1")
    with pytest.raises(ModelError, match=r"held_out\.parquet: was cut short or altered"):
        ReConPatch.load(tmp_path / "m")
    with pytest.raises(ModelError, match="does not hold the held-out images"):
        read_held_out(tmp_path / "m" / HELD_OUT)
