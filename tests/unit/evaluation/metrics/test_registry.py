"""A metric is one function and one entry, which evaluation, report, MLflow and the gate read."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from reconpatch.errors import DataError
from reconpatch.evaluation.comparison import Conclusion, compare_images, compare_pixels
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.evaluation_result import METRICS
from reconpatch.evaluation.metrics import registry
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.evaluation.metrics.registry import Metric
from reconpatch.evaluation.report.html_report import draw_pictures, render_report, write_evaluation
from reconpatch.evaluation.robustness import measure_robustness
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.gate_policy import load_policy

# What evaluations of earlier releases wrote; the registry of champions compares with them.
KNOWN = {
    "aupro", "aupro_error", "d_prime", "detection_rate", "detection_rate_high", "detection_rate_low",
    "f1_threshold", "false_reject_rate", "false_reject_rate_high", "false_reject_rate_low", "image_auroc",
    "image_auroc_high", "image_auroc_low", "image_f1_max", "n_contradicted", "n_test", "n_test_pixel",
    "n_test_without_mask", "n_train", "pixel_auroc", "pixel_auroc_error", "pixel_f1_max",
    "pixel_f1_threshold", "review_threshold", "threshold",
}  # fmt: skip


def average_precision(images):
    return float(average_precision_score(images.labels, images.scores))


def missed_area(counts, limit):
    """Share of the defective pixels below the highest nominal one; a toy, whose smaller values are better."""
    nominal, defective, _ = counts.masses
    return float(defective[: np.flatnonzero(nominal)[-1]].sum() / defective.sum()), limit


def resampled_missed_area(histograms, weights, _):
    nominal, defective = weights @ histograms.nominal, weights @ histograms.defective
    last = nominal.shape[1] - 1 - np.argmax(nominal[:, ::-1] > 0, axis=1)
    return np.array([row[:end].sum() / row.sum() for row, end in zip(defective, last, strict=True)])


TOYS = (
    Metric("ap", "average <precision>", "area below precision", average_precision, is_headline=True),
    Metric("missed", "missed", "area that is missed", of_pixels=missed_area, also=("missed_limit",),
           resampled=resampled_missed_area, larger_is_better=False, is_headline=True),
    Metric("nowhere", "nowhere", "what cannot be had", lambda images: images.threshold / _refuse()),
)  # fmt: skip


def _refuse():
    raise DataError("the toy refuses")


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setattr(registry, "METRICS", (*registry.METRICS, *TOYS))


def test_the_names_of_an_evaluation_are_those_of_earlier_releases(detector, manifest, settings):
    assert set(evaluate(detector, manifest, settings).metrics) == KNOWN


def test_values_lie_in_the_ranges_that_are_stated(detector, manifest, settings):
    found = evaluate(detector, manifest, settings).metrics
    for metric in registry.METRICS:
        if metric.of_images or metric.of_pixels:
            assert metric.lowest <= found[metric.name] <= metric.highest
    names = [metric.name for metric in registry.METRICS]
    assert len(set(names)) == len(names)
    with pytest.raises(DataError, match="nonsense: not a metric; choose from image_auroc"):
        registry.find("nonsense")


@pytest.mark.usefixtures("toys")
def test_a_registered_metric_is_in_the_result_the_report_and_what_mlflow_logs(
    detector, manifest, settings, tmp_path
):
    found = evaluate(detector, manifest, settings)
    labels, scores = found.table["label"], found.table["score"]
    assert found.metrics["ap"] == pytest.approx(average_precision_score(labels, scores))
    assert 0 <= found.metrics["missed"] <= 1
    assert found.metrics["missed_limit"] == 0.3
    assert found.metrics["nowhere"] is None
    assert found.not_available["nowhere"] == "the toy refuses"
    page = render_report(found, draw_pictures(found), {})
    assert "<span>average &lt;precision&gt;</span>" in page
    assert "area that is missed; 0 to 1, smaller is better" in page
    write_evaluation(found, tmp_path / "out")
    assert json.loads((tmp_path / "out" / METRICS).read_text())["ap"] == found.metrics["ap"]
    values = dict.fromkeys(field.name for field in fields(FinishedEvaluation))
    finished = FinishedEvaluation(**values | {"folder": tmp_path / "out", "timings": Path("none")})
    assert finished.metrics()["missed"] == found.metrics["missed"]
    assert finished.not_available()["nowhere"] == "the toy refuses"


@pytest.mark.usefixtures("toys")
def test_a_headline_metric_is_measured_under_disturbances(detector, manifest, settings):
    plain = measure_robustness({"toy": detector}, manifest, settings, [])[0]
    figures = dict(zip(registry.headlines(), plain.figures, strict=True))
    assert list(figures) == ["image_auroc", "pixel_auroc", "aupro", "ap", "missed"]
    found = evaluate(detector, manifest, settings).metrics
    for name in ("image_auroc", "ap"):
        assert figures[name] == pytest.approx(found[name])


@pytest.mark.usefixtures("toys")
def test_the_gate_compares_what_can_be_resampled_and_smaller_may_be_better(tmp_path):
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "gate.yaml").write_text("not_worse: {missed: 0.02}\n")
    assert load_policy(tmp_path).rules("any").not_worse == {"missed": 0.02}
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    several = []
    for strength in (3.0, 1.0):
        metrics = PixelMetrics(keep_images=True)
        for label in labels:
            mask = np.zeros((8, 8), bool)
            mask[:4] = bool(label)
            metrics.update(mask, rng.normal(size=(8, 8)) + strength * mask)
        several.append(metrics.histograms())
    found = compare_pixels(labels, *several, np.arange(40), "missed", resamples=200)
    assert found.conclusion is Conclusion.BETTER, "it misses less"
    with pytest.raises(DataError, match="missed: no image metric that can be resampled"):
        compare_images(labels, labels, labels, np.arange(40), "missed")
    with pytest.raises(DataError, match="no pixel metric"):
        compare_pixels(labels, *several, np.arange(40), "ap")
