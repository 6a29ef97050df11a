"""Every metric that an evaluation yields: what it is, what it is computed from, and where it is shown.

A new metric is a function in a file of its own and an entry of `METRICS`. The evaluation computes it and
writes it to metrics.json, from which the command line, MLflow and the bounds of the gate take all
values; the report, tables of detectors, robustness and the gate's comparison follow the entry's flags.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import image_metrics, pixel_metrics, threshold_metrics
from reconpatch.evaluation.metrics.bootstrap import weighted_auroc
from reconpatch.evaluation.metrics.image_metrics import ImageScores
from reconpatch.evaluation.metrics.intervals import auroc_interval
from reconpatch.evaluation.metrics.pixel_histograms import resampled_aupro, resampled_pixel_auroc
from reconpatch.evaluation.metrics.score_counts import ScoreCounts


@dataclass(frozen=True)
class Metric:
    """One metric.

    A function that raises `DataError` makes the value None, with the error's text as the reason.

    Attributes:
        name: its key in metrics.json and MLflow.
        label: its name for people.
        description: what it says, in one sentence.
        of_images: computes it from the scores of the test images.
        of_pixels: computes it from the pixels' counts (`PixelMetrics.counts`) and AUPRO's limit. Neither: it
            comes from elsewhere, such as `unlabelled`, and stands here to be shown.
        also: names of further values that the function yields after the first.
        interval: its 95 % interval, written as ``<name>_low`` and ``<name>_high``.
        resampled: its values under R sets of image weights, (R,), which makes it comparable in the gate: of
            labels, scores and (R, N) weights, or of `PixelHistograms`, (R, N) weights and AUPRO's limit.
        lowest: smallest possible value.
        highest: largest possible value.
        larger_is_better: the direction.
        is_share: shown in per cent.
        is_headline: people compare detectors by it; tables, robustness and MLflow's pages show it.
        is_card: shown at the top of the report and on a version's page.
    """

    name: str
    label: str
    description: str
    of_images: Callable[[ImageScores], Any] | None = None
    of_pixels: Callable[[ScoreCounts, float], Any] | None = None
    also: tuple[str, ...] = ()
    interval: Callable[[ImageScores], tuple[float, float]] | None = None
    resampled: Callable[..., NDArray[np.float64]] | None = None
    lowest: float = 0.0
    highest: float = 1.0
    larger_is_better: bool = True
    is_share: bool = False
    is_headline: bool = False
    is_card: bool = True


METRICS: tuple[Metric, ...] = (
    Metric(
        "image_auroc",
        "image AUROC",
        "probability that a defective image scores above a nominal one",
        of_images=lambda images: image_metrics.image_auroc(images.labels, images.scores),
        interval=lambda images: auroc_interval(images.labels, images.scores, images.groups),
        resampled=weighted_auroc,
        is_headline=True,
    ),
    Metric(
        "pixel_auroc",
        "pixel AUROC",
        "probability that a defective pixel scores above a nominal one",
        of_pixels=pixel_metrics.auroc_of_counts,
        also=("pixel_auroc_error",),
        resampled=lambda histograms, weights, _: resampled_pixel_auroc(histograms, weights),
        is_headline=True,
    ),
    Metric(
        "aupro",
        "AUPRO",
        "mean overlap with each defective region up to a limit of the false-positive rate",
        of_pixels=pixel_metrics.aupro_of_counts,
        also=("aupro_error",),
        resampled=resampled_aupro,
        is_headline=True,
    ),
    Metric(
        "image_f1_max",
        "best image F1",
        "F1 of the best threshold on these very images",
        of_images=threshold_metrics.best_f1,
        also=("f1_threshold",),
    ),
    Metric(
        "pixel_f1_max",
        "best pixel F1",
        "F1 of pixels at the best threshold on these very maps",
        of_pixels=pixel_metrics.f1_of_counts,
        also=("pixel_f1_threshold",),
        is_card=False,
    ),
    Metric(
        "d_prime",
        "d'",
        "distance of the classes' mean scores in pooled standard deviations",
        of_images=lambda images: image_metrics.d_prime(images.labels, images.scores),
        lowest=-np.inf,
        highest=np.inf,
        is_card=False,
    ),
    Metric(
        "detection_rate",
        "defects detected",
        "share of the defective images above the detector's threshold",
        of_images=lambda images: threshold_metrics.rejected_share(images, 1),
        interval=lambda images: threshold_metrics.rejected_interval(images, 1),
        is_share=True,
    ),
    Metric(
        "false_reject_rate",
        "good images rejected",
        "share of the nominal test images above the detector's threshold",
        of_images=lambda images: threshold_metrics.rejected_share(images, 0),
        interval=lambda images: threshold_metrics.rejected_interval(images, 0),
        larger_is_better=False,
        is_share=True,
    ),
    # Without a labelled defect: computed by reconpatch/evaluation/unlabelled.py.
    Metric(
        "heldout_false_reject_rate",
        "held-out good images rejected",
        "share of the held-out nominal images above the threshold that the other groups give",
        larger_is_better=False,
        is_share=True,
    ),
    Metric(
        "synthetic_image_auroc",
        "image AUROC, synthetic defects",
        "probability that an image with a synthetic defect scores above a nominal one",
    ),
    Metric(
        "synthetic_pixel_auroc",
        "pixel AUROC, synthetic defects",
        "probability that a pixel of a synthetic defect scores above a nominal one",
    ),
    Metric(
        "synthetic_detection_rate",
        "synthetic defects detected",
        "share of the images with a synthetic defect above the detector's threshold",
        is_share=True,
    ),
    Metric(
        "stability",
        "verdicts stable under ±2 % light",
        "share of nominal images whose verdict stays when they are slightly brighter and darker",
        is_share=True,
    ),
)


def headlines() -> tuple[str, ...]:
    """Names of the metrics that people compare detectors by."""
    return tuple(metric.name for metric in METRICS if metric.is_headline)


def comparable() -> tuple[str, ...]:
    """Names of the metrics that two detectors can be compared by, image for image."""
    return tuple(metric.name for metric in METRICS if metric.resampled is not None)


def find(name: str) -> Metric:
    """The metric of that name.

    Raises:
        DataError: there is none.
    """
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise DataError(f"{name}: not a metric; choose from {', '.join(metric.name for metric in METRICS)}")
