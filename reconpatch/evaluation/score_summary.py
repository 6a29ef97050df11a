"""The metrics of a test set; what is not defined is None, with the reason beside it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import registry
from reconpatch.evaluation.metrics.image_metrics import ImageScores
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.evaluation.metrics.score_counts import ScoreCounts
from reconpatch.evaluation.metrics.threshold_metrics import own_threshold

Metrics = dict[str, float | int | None]
Reasons = dict[str, str]

_BY_TYPE = ("image_auroc", "detection_rate")


def record(metrics: Metrics, reasons: Reasons, names: tuple[str, ...], compute: Callable[[], Any]) -> None:
    """Store what ``compute`` yields under ``names``, or None and the text of its `DataError`."""
    try:
        values = compute()
    except DataError as error:
        for name in names:
            metrics[name], reasons[name] = None, str(error)
        return
    for name, value in zip(names, values if len(names) > 1 else (values,), strict=True):
        metrics[name] = value


def summarise_images(table: pd.DataFrame, threshold: float | None) -> tuple[Metrics, Reasons]:
    """Image metrics of a test set.

    Args:
        table: a row an image: label (0, 1), score, group.
        threshold: the detector's; an image is rejected above it. None when it is not calibrated.

    Returns:
        The threshold and every metric of the registry that image scores give, with 95 % intervals as
        ``<name>_low`` and ``_high`` where it has one; and the reason for each None.
    """
    metrics: Metrics = {}
    reasons: Reasons = {}
    images = ImageScores(
        table["label"].to_numpy(int), table["score"].to_numpy(float), table["group"].to_numpy(str), threshold
    )
    record(metrics, reasons, ("threshold",), lambda: own_threshold(images))
    for metric in registry.METRICS:
        if metric.of_images is not None:
            record(metrics, reasons, (metric.name, *metric.also), partial(metric.of_images, images))
        if metric.interval is not None:
            ends = (f"{metric.name}_low", f"{metric.name}_high")
            record(metrics, reasons, ends, partial(metric.interval, images))
    return metrics, reasons


def record_pixels(metrics: Metrics, reasons: Reasons, pixels: PixelMetrics, limit: float) -> None:
    """Store the pixel metrics, or why there are none.

    Args:
        metrics: added to.
        reasons: added to.
        pixels: fed with every map.
        limit: false-positive rate up to which AUPRO integrates.
    """
    for metric in registry.METRICS:
        if metric.of_pixels is not None:
            compute = partial(_of_pixels, metric.of_pixels, pixels, limit)
            record(metrics, reasons, (metric.name, *metric.also), compute)


def _of_pixels(compute: Callable[[ScoreCounts, float], Any], pixels: PixelMetrics, limit: float) -> Any:
    return compute(pixels.counts(), limit)


def summarise_types(table: pd.DataFrame, threshold: float | None) -> dict[str, Metrics]:
    """Per defect type: n, image_auroc against all nominal images, detection_rate, 95 % intervals of both.

    Args:
        table: as in `summarise_images`, with defect_type.
        threshold: the detector's, or None.
    """
    types: dict[str, Metrics] = {}
    for name in sorted(set(table.loc[table["label"] == 1, "defect_type"])):
        rows = table[(table["label"] == 0) | (table["defect_type"] == name)]
        whole, _ = summarise_images(rows, threshold)
        kept = {key: value for key, value in whole.items() if key.startswith(_BY_TYPE)}
        types[str(name)] = {"n": int((rows["label"] == 1).sum()), **kept}
    return types
