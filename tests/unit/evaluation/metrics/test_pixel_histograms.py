import numpy as np
import pytest

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import aupro, pixel_auroc
from reconpatch.evaluation.metrics.pixel_histograms import (
    PixelHistograms,
    resampled_aupro,
    resampled_pixel_auroc,
)
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics


def a_run(images=12, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((images, 20, 20), bool)
    masks[::2, 3:9, 4:8] = True
    masks[::4, 14:17, 12:19] = True
    maps = (rng.normal(2, 0.4, masks.shape) + masks * 0.6 + shift).astype(np.float32)
    run = PixelMetrics(keep_images=True)
    for mask, anomaly_map in zip(masks, maps, strict=True):
        run.update(mask, anomaly_map)
    return masks, maps, run.histograms()


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_metrics_of_resamples_are_those_of_repeated_images(shift):
    masks, maps, histograms = a_run(shift=shift)  # shifted: negative scores, as an ensemble's z-scores are
    weights = np.random.default_rng(1).integers(0, 3, (6, 12)).astype(float)
    areas, overlaps = resampled_pixel_auroc(histograms, weights), resampled_aupro(histograms, weights, 0.3)
    for row, area, overlap in zip(weights.astype(int), areas, overlaps, strict=True):
        again = np.repeat(np.arange(12), row)
        assert area == pytest.approx(pixel_auroc(masks[again], maps[again]), abs=2e-3)
        assert overlap == pytest.approx(aupro(masks[again], maps[again], 0.3), abs=5e-3)


def test_by_hand_two_images_four_pixels():
    run = PixelMetrics(keep_images=True)
    run.update([[False, False]], [[1.0, 3.0]])
    run.update([[True, True]], [[2.0, 4.0]])
    histograms = run.histograms()
    # Of the four pairs 2 > 1, 4 > 1 and 4 > 3 are right: 3/4.
    assert resampled_pixel_auroc(histograms, np.ones((1, 2)))[0] == pytest.approx(0.75)
    # Up to a false-positive rate of 1/2 the curve stays at 1/2: area 1/4, over the limit 1/2.
    assert resampled_aupro(histograms, np.ones((1, 2)), 0.5)[0] == pytest.approx(0.5)


def test_a_resample_without_defects_is_nan():
    _, _, histograms = a_run()
    nominal_only = np.tile([0.0, 1.0], 6)[None]
    assert np.isnan(resampled_pixel_auroc(histograms, nominal_only)).all()


def test_files_round_trip_and_are_equal_bytes(tmp_path):
    _, _, histograms = a_run()
    histograms.save(tmp_path / "a.safetensors")
    histograms.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    again = PixelHistograms.load(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(again.regions, histograms.regions)
    np.testing.assert_array_equal(again.measured, histograms.measured)


def test_an_image_without_ground_truth_counts_in_nothing():
    run = PixelMetrics(keep_images=True)
    run.skip()
    run.update([[False, True]], [[1.0, 2.0]])
    histograms = run.histograms()
    assert histograms.measured.tolist() == [False, True]
    assert histograms.nominal[0].sum() == 0
    assert len(histograms.take(np.array([1]))) == 1


def test_a_damaged_file_is_a_clear_error(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"abc")
    with pytest.raises(DataError, match="no pixel histograms"):
        PixelHistograms.load(tmp_path / "cut.safetensors")


def test_shapes_must_agree():
    with pytest.raises(DataError, match="must be the same"):
        PixelMetrics(keep_images=True).update(np.zeros((2, 2), bool), np.zeros((3, 3)))


def test_minus_zero_is_zero():
    run = PixelMetrics(keep_images=True)
    run.update([[False, True, False, True]], [[-0.0, 0.0, 0.0, -0.0]])
    histograms = run.histograms()
    assert histograms.nominal.tolist() == [[2]]
    assert resampled_pixel_auroc(histograms, np.ones((1, 1))) == 0.5
