"""Calibration without holding out, against doing the folds by hand; and rates refused before the work."""

import shutil

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.calibration import calibrate
from reconpatch.errors import SettingsError

PARAMS = {
    "features.image_size": 64,
    "modulation.dim": 16,
    "modulation.projection_dim": 8,
    "modulation.steps": 2,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.2,
    "threads": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("nuts") / "nut"
    (root / "train/good").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = rng.integers(80, 150, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"train/good/{number:02}.png")
    return root


def test_every_image_is_scored_once_by_a_detector_that_does_not_know_it(folder, tmp_path, monkeypatch):
    params = {**PARAMS, "calibrate.calibration": "crossfit", "calibrate.folds": 4}
    asked = []
    score = calibrate.score_nominal

    def noting(features, *others):
        asked.append(features.image_digests)
        return score(features, *others)

    monkeypatch.setattr(calibrate, "score_nominal", noting)
    detector = ReConPatch(params=params, cache=tmp_path).fit(folder)
    assert detector.training_set.holdout == ()
    assert len(detector.training_set.fit) == 20
    scored = [digest for digests in asked for digest in digests]
    assert sorted(scored) == sorted(detector.training_set.fit)
    assert [len(digests) for digests in asked] == [5, 5, 5, 5]
    # A bank without an image's patches has none of them at distance 0.
    assert min(detector.calibration.nominal.values) > 0.01
    calibration = detector.calibration
    assert (calibration.method, calibration.threshold.n) == ("crossfit", 20)
    assert len(detector.parts.bank) == round(0.2 * 20 * 64)


def test_the_same_folds_every_time(folder, tmp_path):
    params = {**PARAMS, "calibrate.calibration": "crossfit", "calibrate.folds": 2}
    first, again = (ReConPatch(params=params, cache=tmp_path).fit(folder) for _ in range(2))
    assert first.calibration == again.calibration


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"3 held-out groups .* hold out 99 or more"),
        ({"calibrate.calibration": "crossfit"}, r"20 held-out groups .* hold out 99 or more"),
        (
            {"calibrate.calibration": "crossfit", "calibrate.holdout": 0},
            r"20 held-out groups .* hold out 99 or more",
        ),
    ],
)
def test_one_percent_from_twenty_images_is_refused_before_any_training(
    folder, tmp_path, params, message, monkeypatch
):
    def train(*_):
        raise AssertionError("trained first")

    monkeypatch.setattr("reconpatch.fit.fit_modulation", train)
    asked = {**PARAMS, **params, "calibrate.false_reject_rate": 0.01}
    with pytest.raises(SettingsError, match=message):
        ReConPatch(params=asked, cache=tmp_path).fit(folder)


@pytest.mark.parametrize("calibration", ["holdout", "crossfit"])
def test_images_of_equal_content_are_one_group_whatever_they_are_called(
    folder, tmp_path, calibration, monkeypatch
):
    twice = tmp_path / "twice"
    (twice / "train/good").mkdir(parents=True)
    for number, path in enumerate(sorted((folder / "train/good").iterdir())[:10]):
        for copy in "ab":
            shutil.copy(path, twice / f"train/good/{number}{copy}.png")
    params = {**PARAMS, "calibrate.calibration": calibration, "calibrate.holdout": 0.4, "calibrate.folds": 2}
    groups = {"holdout": 4, "crossfit": 10}[calibration]
    assert ReConPatch(params=params, cache=tmp_path).fit(twice).calibration.threshold.n == groups

    monkeypatch.setattr("reconpatch.fit.fit_modulation", None)  # refused before it is called
    asked = params | {"calibrate.false_reject_rate": 1 / (groups + 2)}
    with pytest.raises(SettingsError, match=f"{groups} held-out groups"):
        ReConPatch(params=asked, cache=tmp_path).fit(twice)


def test_predictions_carry_band_and_probability(folder, tmp_path):
    detector = ReConPatch(params=PARAMS, cache=tmp_path).fit(folder)
    black = np.zeros((64, 64, 3), np.uint8)
    bad = detector.predict(black)[0]
    assert (bad.band, bad.is_anomalous, bad.false_reject_probability) == ("reject", True, 0.25)
    good = detector.predict(sorted((folder / "train/good").iterdir()))
    fit_scores = [p for p in good if p.band == "accept"]
    assert len(fit_scores) >= 17
    assert all(0.25 <= p.false_reject_probability <= 1 for p in good)


def test_review_below_reject_is_refused():
    with pytest.raises(SettingsError, match="review_rate"):
        ReConPatch(params={"calibrate.review_rate": 0.01, "calibrate.false_reject_rate": 0.05})
