"""Figures from a table of image scores; what is not defined is None, with the reason beside it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import d_prime, f1_max, image_auroc
from reconpatch.evaluation.metrics.intervals import auroc_interval, share_interval

Metrics = dict[str, float | int | None]
Reasons = dict[str, str]

_BY_TYPE = ("image_auroc", "detection_rate")
_NO_NOMINAL, _NO_DEFECT = "no nominal test image", "no defective test image"


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
        image_auroc, image_f1_max and f1_threshold, d_prime, threshold, false_reject_rate of nominal and
        detection_rate of defective images; 95 % intervals as ``<name>_low`` and ``_high`` of image_auroc and
        both rates; and the reason for each None.
    """
    metrics: Metrics = {}
    reasons: Reasons = {}
    labels, scores = table["label"].to_numpy(int), table["score"].to_numpy(float)
    groups = table["group"].to_numpy(str)
    record(metrics, reasons, ("image_auroc",), lambda: image_auroc(labels, scores))
    record(
        metrics,
        reasons,
        ("image_auroc_low", "image_auroc_high"),
        lambda: auroc_interval(labels, scores, groups),
    )
    record(metrics, reasons, ("image_f1_max", "f1_threshold"), lambda: _f1(labels, scores))
    record(metrics, reasons, ("d_prime",), lambda: d_prime(labels, scores))
    record(metrics, reasons, ("threshold",), lambda: _shipped(threshold))
    for name, label in (("false_reject_rate", 0), ("detection_rate", 1)):
        rows = labels == label
        _record_rate(metrics, reasons, name, scores[rows], groups[rows], threshold)
    return metrics, reasons


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


def _f1(labels: NDArray[np.int_], scores: NDArray[np.float64]) -> tuple[float, float]:
    if labels.all():
        raise DataError("no nominal image: a best F1 says nothing")
    return f1_max(labels, scores)


def _shipped(threshold: float | None) -> float:
    if threshold is None:
        raise DataError("the detector is not calibrated: no nominal images were held out")
    return threshold


def _record_rate(
    metrics: Metrics,
    reasons: Reasons,
    name: str,
    scores: NDArray[np.float64],
    groups: NDArray[np.str_],
    threshold: float | None,
) -> None:
    """Share of the scores above the threshold, and its interval."""

    def rejected() -> NDArray[np.bool_]:
        if not scores.size:
            raise DataError(_NO_NOMINAL if name == "false_reject_rate" else _NO_DEFECT)
        return scores > _shipped(threshold)

    record(metrics, reasons, (name,), lambda: float(rejected().mean()))
    ends = (f"{name}_low", f"{name}_high")
    record(metrics, reasons, ends, lambda: share_interval(rejected(), groups))
