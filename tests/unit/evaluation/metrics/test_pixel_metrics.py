import itertools

import numpy as np
import pytest
from skimage.measure import label
from sklearn.metrics import f1_score, roc_auc_score

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import score_counts
from reconpatch.evaluation.metrics.image_metrics import aupro, pixel_auroc
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics

SHAPE = (24, 30)


def naive_aupro(masks, maps, limit):
    """By definition: the share of each region at or above each threshold, one region after another."""
    regions = [
        scores[labels == number]
        for mask, scores in zip(masks, maps, strict=True)
        for labels in [label(mask, connectivity=2)]
        for number in range(1, labels.max() + 1)
    ]
    nominal = np.concatenate([scores[~mask] for mask, scores in zip(masks, maps, strict=True)])
    thresholds = np.unique(np.concatenate([scores.ravel() for scores in maps]))[::-1]

    def share_above(values):
        return 1 - np.searchsorted(np.sort(values), thresholds, side="left") / values.size

    overlap = sum(share_above(region) for region in regions) / len(regions)
    points = list(zip([0, *share_above(nominal)], [0, *overlap], strict=True))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


def a_case(kind, images=9, seed=0):
    rng = np.random.default_rng(seed)
    masks, maps = [], []
    for number in range(images):
        mask = np.zeros(SHAPE, bool)
        for _ in range(number % 4):
            row, column = rng.integers(0, 18, 2)
            mask[row : row + rng.integers(1, 6), column : column + rng.integers(1, 9)] = True
        scores = rng.gamma(2.0, 1.0, SHAPE) + mask * rng.choice([0.3, 1.0, 3.0])
        masks.append(mask)
        maps.append(scores)
    maps = np.array(maps)
    maps = {
        "smooth": maps,
        "heavy ties": np.round(maps),
        "all equal": np.ones_like(maps),
        "negative": -1 / maps,
        "tiny range": 1000 + maps * 1e-3,
        "huge outliers": np.where(rng.random(maps.shape) < 0.01, maps * 1e30, maps),
        "inverted": -maps,
        "half zero": np.maximum(maps - 2, 0),
    }[kind]
    return np.array(masks), maps.astype(np.float32)


KINDS = [
    "smooth",
    "heavy ties",
    "all equal",
    "negative",
    "tiny range",
    "huge outliers",
    "inverted",
    "half zero",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_exact_on_small_sets(kind, limit):
    masks, maps = a_case(kind)
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert aupro(masks, maps, limit) == pytest.approx(naive_aupro(masks, maps, limit), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_reduced_sets_stay_within_the_stated_error(kind, monkeypatch):
    monkeypatch.setattr(score_counts, "MOST_BINS", 2048)
    masks, maps = a_case(kind, images=40)
    metrics = PixelMetrics()
    for mask, scores in zip(masks, maps, strict=True):
        metrics.update(mask, scores)
    found = metrics.compute(0.3)
    distinct = np.unique(maps).size
    assert 0 < found.pixel_auroc_error < 0.002 if distinct > 2048 else found.pixel_auroc_error == 0
    assert found.pixel_auroc == pytest.approx(
        roc_auc_score(masks.ravel(), maps.ravel()), abs=found.pixel_auroc_error + 1e-12
    )
    assert found.aupro == pytest.approx(naive_aupro(masks, maps, 0.3), abs=found.aupro_error + 1e-12)


def test_crowded_scores_of_two_million_pixels_stay_within_1e_4():
    """A far outlier, and 2,000,000 others within a thousandth of 1000: bins follow the scores in use."""
    rng = np.random.default_rng(0)
    masks = np.zeros((2, 1000, 1000), bool)
    masks[1, :300] = True
    maps = (1000 + rng.gamma(2.0, 1.0, masks.shape) + masks).astype(np.float32)
    maps[0, 0, 0] = 1e30
    metrics = PixelMetrics()
    for mask, scores in zip(masks, maps, strict=True):
        metrics.update(mask, scores)
    found = metrics.compute(0.3)
    assert found.pixel_auroc_error < 1e-4
    assert found.aupro_error < 1e-4
    exact = roc_auc_score(masks.ravel(), maps.ravel())
    assert found.pixel_auroc == pytest.approx(exact, abs=max(found.pixel_auroc_error, 1e-12))


def test_hand_worked_overlap():
    # Two regions that touch by a corner only are one: 8-connectivity.
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], bool)
    scores = np.array([[9, 1, 1, 1], [1, 2, 1, 1], [1, 1, 5, 8]], np.float32)
    # Thresholds 9, 8, 5, 2, 1: overlap 1/4, 3/4, 3/4, 1, 1; false positives 0, 0, 1/9, 1/9, 1.
    # Area up to 1/9: 3/4 * 1/9; then 1 * (0.3 - 1/9).
    assert aupro([mask], [scores], 0.3) == pytest.approx((0.75 / 9 + 0.3 - 1 / 9) / 0.3)


def test_perfect_and_useless_maps():
    masks, _ = a_case("smooth")
    assert aupro(masks, masks.astype(np.float32)) == pytest.approx(1.0)
    assert pixel_auroc(masks, masks.astype(np.float32)) == 1.0
    # One tie of everything is the diagonal: half the limit.
    assert aupro(masks, np.zeros(masks.shape), 0.3) == pytest.approx(0.15)
    assert aupro(masks, -masks.astype(np.float32), 0.3) == pytest.approx(0.0)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((10, 10), bool)
    mask[:5], mask[8, 8] = True, True
    missed_small = mask.astype(np.float32)
    missed_small[8, 8] = -1
    assert aupro([mask], [missed_small], 0.3) == pytest.approx(0.5)
    assert pixel_auroc([mask], [missed_small]) == pytest.approx(50 / 51)


def test_images_may_differ_in_size_and_come_from_generators():
    masks, maps = a_case("smooth")
    cut = [(m[: 10 + i], s[: 10 + i]) for i, (m, s) in enumerate(zip(masks, maps, strict=True))]
    flat_masks, flat_maps = (np.concatenate([pair[i].ravel() for pair in cut]) for i in (0, 1))
    found = pixel_auroc((m for m, _ in cut), (s for _, s in cut))
    assert found == pytest.approx(roc_auc_score(flat_masks, flat_maps), abs=1e-12)


def test_best_pixel_f1():
    masks, maps = a_case("smooth")
    metrics = PixelMetrics()
    for mask, scores in zip(masks, maps, strict=True):
        metrics.update(mask, scores)
    found = metrics.compute()
    assert found.f1_max == pytest.approx(f1_score(masks.ravel(), maps.ravel() >= found.f1_threshold))
    for threshold in np.quantile(maps, np.linspace(0.01, 0.99, 50)):
        assert f1_score(masks.ravel(), maps.ravel() >= threshold) <= found.f1_max + 1e-12


@pytest.mark.parametrize(
    ("masks", "maps", "text"),
    [
        (np.zeros((2, 4, 4)), np.ones((2, 4, 4)), "no mask has a defective pixel"),
        (np.ones((2, 4, 4)), np.ones((2, 4, 4)), "every pixel"),
        (np.ones((2, 4, 4)), np.ones((2, 4, 5)), "same"),
        (np.ones((2, 4, 4)), np.ones((1, 4, 4)), "as many"),
        (np.eye(4)[None], np.full((1, 4, 4), np.nan), "finite"),
        (np.empty((0, 4, 4)), np.empty((0, 4, 4)), "no mask"),
    ],
)
def test_what_is_not_defined_is_refused(masks, maps, text):
    with pytest.raises(DataError, match=text):
        pixel_auroc(masks, maps)
    with pytest.raises(DataError, match=text):
        aupro(masks, maps)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.5])
def test_limit_out_of_range(limit):
    with pytest.raises(DataError, match="limit"):
        aupro(*a_case("smooth"), limit)
