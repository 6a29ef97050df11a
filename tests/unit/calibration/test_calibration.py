import numpy as np
import pytest

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.errors import DataError, SettingsError


def _scores(n, seed=0):
    return np.random.default_rng(seed).gamma(4, size=n).astype(np.float32)


def test_scores_pixels_and_threshold_by_hand():
    calibration = calibrate_scores(
        np.array([5.0, 1, 3, 2]),
        np.array([0.0, 10, 20]),
        np.array([9.0, 7, 8, 6]),
        false_reject_rate=0.4,
        review_rate=0.6,
    )
    assert (calibration.scores.median, calibration.scores.mad, calibration.scores.n) == (2.5, 1, 4)
    assert (calibration.pixels.median, calibration.pixels.mad, calibration.pixels.n) == (10, 10, 3)
    # ceil(5 * 0.6) = 3, and the third smallest image score is 3.
    assert (calibration.threshold.value, calibration.threshold.false_reject_rate) == (3, 0.4)
    # ceil(5 * 0.4) = 2; the third smallest of the maps' peaks is 8.
    assert (calibration.review.value, calibration.pixel_threshold.value) == (2, 8)
    assert [calibration.band(score) for score in (2, 2.1, 3, 3.1)] == ["accept", "review", "review", "reject"]
    assert calibration.carried_over is False
    assert calibration.method == "holdout"


def test_default_bands_lie_apart_and_in_order():
    for n in (3, 10, 31, 99, 500):
        calibration = calibrate_scores(_scores(n), _scores(50), _scores(n))
        assert calibration.review.value < calibration.threshold.value
        assert calibration.review.false_reject_rate >= calibration.threshold.false_reject_rate
    alone = calibrate_scores(_scores(1), _scores(50), _scores(1))
    assert alone.review.value == alone.threshold.value


def test_a_wide_rate_is_never_above_the_review_rate():
    calibration = calibrate_scores(_scores(50), _scores(50), _scores(50), false_reject_rate=0.8)
    assert calibration.review == calibration.threshold


def test_default_rate():
    assert calibrate_scores(_scores(20), _scores(50), _scores(20)).threshold.false_reject_rate == 1 / 21
    assert calibrate_scores(_scores(300), _scores(50), _scores(300)).threshold.false_reject_rate == 0.01


@pytest.mark.parametrize(
    ("scores", "pixels"), [([], [1.0]), ([1.0], []), ([np.nan], [1.0]), ([1.0], [np.inf])]
)
def test_absent_or_not_finite_values_are_refused(scores, pixels):
    with pytest.raises(DataError, match="absent or not finite"):
        calibrate_scores(np.array(scores), np.array(pixels), np.array(scores))


def test_a_rate_that_the_images_cannot_promise_is_refused():
    with pytest.raises(SettingsError, match="hold out 99 or more"):
        calibrate_scores(_scores(20), _scores(50), _scores(20), false_reject_rate=0.01)
