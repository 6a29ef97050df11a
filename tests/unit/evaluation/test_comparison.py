from statistics import NormalDist

import numpy as np
import pytest

from reconpatch.errors import DataError
from reconpatch.evaluation.comparison import Conclusion, compare_images, compare_pixels
from reconpatch.evaluation.metrics.image_metrics import aupro, image_auroc, pixel_auroc
from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics


def two_detectors(first, second, images=80, seed=0, correlation=0.7):
    """Labels and paired scores of two binormal detectors with the given true AUROCs."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    common, own = rng.normal(size=images), rng.normal(size=(2, images))
    scores = [
        labels * 2**0.5 * NormalDist().inv_cdf(area)
        + correlation**0.5 * common
        + (1 - correlation) ** 0.5 * own[i]
        for i, area in enumerate((first, second))
    ]
    return labels, *scores


def test_a_spoiled_detector_is_worse_and_the_other_way_round_better():
    labels, spoiled, good = two_detectors(0.6, 0.95)
    down = compare_images(labels, spoiled, good, np.arange(80))
    up = compare_images(labels, good, spoiled, np.arange(80))
    assert (down.conclusion, up.conclusion) == (Conclusion.WORSE, Conclusion.BETTER)
    assert down.difference == pytest.approx(image_auroc(labels, spoiled) - image_auroc(labels, good))
    assert up.difference == -down.difference
    assert down.lower < down.difference < down.upper < 0


def test_a_thousandth_within_noise_is_not_distinguishable():
    labels, _, scores = two_detectors(0.9, 0.95, images=400)
    rng = np.random.default_rng(5)
    # Slightly shuffled ranks: the AUROC moves by about a thousandth, up in this draw.
    nudged = scores + rng.normal(0, 0.05, scores.size) + 0.01 * labels
    found = compare_images(labels, nudged, scores, np.arange(400))
    assert 0 < found.difference < 0.002
    assert found.conclusion is Conclusion.NOT_WORSE
    assert "not distinguishable" in found.reason
    found = compare_images(labels, nudged, scores, np.arange(400), margin=0.0001)
    assert found.conclusion is Conclusion.CANNOT_TELL


def test_six_images_cannot_tell_and_say_what_may_be_hidden():
    labels = np.array([0, 0, 0, 1, 1, 1])
    found = compare_images(labels, [0, 1, 2, 0.5, 4, 5], [0, 1, 2, 3, 4, 5], np.arange(6))
    assert found.conclusion is Conclusion.CANNOT_TELL
    assert found.difference == pytest.approx(-2 / 9)
    # Three parts of three were right; by Clopper and Pearson 1 - 0.05**(1/3) of them may be wrong.
    assert found.detectable == pytest.approx(0.6316, abs=1e-4)
    assert "too small" in found.reason
    assert (found.lower, found.upper) == (None, None)


def test_two_perfect_detectors_cannot_be_told_apart_and_get_no_interval():
    labels = np.arange(100) % 2
    rng = np.random.default_rng(0)
    found = compare_images(labels, labels + rng.random(100) / 2, labels + rng.random(100) / 2, np.arange(100))
    assert found.conclusion is Conclusion.CANNOT_TELL
    assert "saturated" in found.reason
    assert (found.difference, found.lower, found.upper) == (0, None, None)
    assert found.detectable == pytest.approx(1 - 0.05 ** (1 / 50))


def test_equal_scores_and_a_single_differing_part_are_no_evidence():
    labels, scores, _ = two_detectors(0.9, 0.9)
    same = compare_images(labels, scores, scores, np.arange(80))
    assert same.conclusion is Conclusion.CANNOT_TELL
    assert "0 group(s) are ranked otherwise" in same.reason
    perfect = labels + np.linspace(0, 0.5, 80)
    one_missed = perfect.copy()
    one_missed[1] = -1
    missed = compare_images(labels, one_missed, perfect, np.arange(80))
    assert missed.conclusion is Conclusion.CANNOT_TELL
    assert "only 1 group(s)" in missed.reason


def test_copies_of_an_image_are_one_observation():
    labels, first, second = two_detectors(0.9, 0.8)
    plain = compare_images(labels, first, second, np.arange(80))
    copied = compare_images(*(np.repeat(values, 5) for values in (labels, first, second, np.arange(80))))
    assert copied.lower == pytest.approx(plain.lower, abs=0.01)
    assert copied.detectable == pytest.approx(plain.detectable, rel=0.1)
    ignorant = compare_images(*(np.repeat(values, 5) for values in (labels, first, second)), np.arange(400))
    assert ignorant.detectable < 0.6 * plain.detectable


def test_pairing_tells_what_two_separate_intervals_cannot():
    labels, first, second = two_detectors(0.95, 0.9, images=300, correlation=0.97)
    paired = compare_images(labels, first, second, np.arange(300))
    shuffled = np.random.default_rng(0).permutation(150)
    mixed = second.copy()
    mixed[labels == 1] = second[labels == 1][shuffled]
    mixed[labels == 0] = second[labels == 0][shuffled]
    unpaired = compare_images(labels, first, mixed, np.arange(300))
    assert paired.difference == pytest.approx(unpaired.difference)
    assert paired.detectable < 0.6 * unpaired.detectable


@pytest.mark.parametrize("area", [0.8, 0.95])
def test_of_two_equal_detectors_few_are_called_better_or_worse(area):
    found = [
        compare_images(*two_detectors(area, area, seed=seed), np.arange(80), resamples=200).conclusion
        for seed in range(100)
    ]
    # 5 % by intention; of 100 draws 12 are beyond what 5 % gives in 99 of 100 cases.
    assert found.count(Conclusion.BETTER) < 12
    assert found.count(Conclusion.WORSE) < 12


def test_a_loss_of_the_margin_is_seldom_called_not_worse():
    found = [
        compare_images(*two_detectors(0.94, 0.95, seed=seed), np.arange(80), resamples=200).conclusion
        for seed in range(100)
    ]
    assert found.count(Conclusion.NOT_WORSE) + found.count(Conclusion.BETTER) < 12


def test_resampling_is_reproducible_and_seeded():
    case = (*two_detectors(0.9, 0.85), np.arange(80))
    assert compare_images(*case, seed=3) == compare_images(*case, seed=3)
    assert compare_images(*case, seed=3).lower != compare_images(*case, seed=4).lower


def maps_of(images, strength, seed):
    """Masks and maps; every second image has a defect of 4 x 4 pixels that stands out by ``strength``."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, 16, 16), bool)
    for number in range(1, images, 2):
        row, column = rng.integers(0, 12, 2)
        masks[number, row : row + 4, column : column + 4] = True
    return masks, (np.abs(rng.normal(1, 0.2, masks.shape)) + strength * masks).astype(np.float32)


def histograms_of(masks, maps) -> PixelHistograms:
    metrics = PixelMetrics(keep_images=True)
    for mask, anomaly_map in zip(masks, maps, strict=True):
        metrics.update(mask, anomaly_map)
    return metrics.histograms()


def test_pixel_metrics_say_which_detector_finds_the_defect():
    labels, groups = np.arange(40) % 2, np.arange(40)
    masks, strong = maps_of(40, 0.5, seed=0)
    _, weak = maps_of(40, 0.1, seed=0)
    new, old = histograms_of(masks, strong), histograms_of(masks, weak)
    for metric, exact in (("pixel_auroc", pixel_auroc), ("aupro", aupro)):
        found = compare_pixels(labels, new, old, groups, metric, resamples=300)
        assert found.conclusion is Conclusion.BETTER
        assert found.difference == pytest.approx(exact(masks, strong) - exact(masks, weak), abs=2e-3)
        assert compare_pixels(labels, old, new, groups, metric, resamples=300).conclusion is Conclusion.WORSE


def test_pixel_metrics_without_masks_or_with_few_images_cannot_tell():
    masks, maps = maps_of(10, 0.5, seed=0)
    few = histograms_of(masks, maps)
    labels = np.arange(10) % 2
    assert "too small" in compare_pixels(labels, few, few, np.arange(10), "aupro").reason
    metrics = PixelMetrics(keep_images=True)
    for _ in maps:
        metrics.skip()
    blind = metrics.histograms()
    assert (
        "no defective image with a mask" in compare_pixels(labels, blind, few, np.arange(10), "aupro").reason
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: compare_images([0, 1], [0, np.nan], [0, 1], [0, 1]), "NaN"),
        (lambda: compare_images([0, 1], [0, 1], [0, 1, 2], [0, 1]), "must be"),
        (
            lambda: compare_pixels([0, 1], histograms_of([], []), histograms_of([], []), [0, 1], "aupro"),
            "0 and 0",
        ),
        (
            lambda: compare_pixels([], histograms_of([], []), histograms_of([], []), [], "f1"),
            "no pixel metric|not a metric",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, text):
    with pytest.raises(DataError, match=text):
        call()


def test_where_every_resample_agrees_the_bounds_are_what_the_set_may_hide():
    labels = np.arange(40) % 2
    blind, perfect = np.ones(40), labels + np.linspace(0, 0.5, 40)
    found = compare_images(labels, blind, perfect, np.arange(40))
    assert found.conclusion is Conclusion.WORSE
    assert found.upper == pytest.approx(-0.5 + 1 - 0.05 ** (1 / 20))
    assert compare_images(labels, perfect, blind, np.arange(40)).conclusion is Conclusion.BETTER
