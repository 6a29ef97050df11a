"""Run a detector over a labelled test set and measure it."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from reconpatch.data.file_listing import printable
from reconpatch.data.images import read_image
from reconpatch.data.reviews import contradicted
from reconpatch.data.training_images import training_rows
from reconpatch.errors import DataError
from reconpatch.evaluation.detector_protocol import Detector, Prediction
from reconpatch.evaluation.evaluation_result import Evaluation, Example
from reconpatch.evaluation.ground_truth import PixelRun, ground_truth
from reconpatch.evaluation.leak_check import check_disjoint
from reconpatch.evaluation.metrics.operating_points import choosing_part, judge
from reconpatch.evaluation.report.example_choice import choose_examples, colour_scale
from reconpatch.evaluation.score_summary import summarise_images, summarise_types
from reconpatch.evaluation.unlabelled import evaluate_unlabelled, heldout_rows
from reconpatch.model.preprocess import prepare_image
from reconpatch.progress import track
from reconpatch.settings import Settings

_T = TypeVar("_T")
_COLUMNS: dict[str, Any] = {
    "path": object,
    "label": "int64",
    "defect_type": object,
    "group": object,
    "score": "float64",
    "is_anomalous": object,
    "map_median": "float64",
    "map_max": "float64",
}


def evaluate(detector: Detector, table: pd.DataFrame, settings: Settings) -> Evaluation:
    """Measure a detector on the test images of a manifest.

    A test image whose label a person contradicts (``verdict``) is left out and counted as ``n_contradicted``:
    which of the two is right is not known, and the other label would lack its mask.

    Maps are measured as they come and not kept, so memory does not grow with the test set. Without a labelled
    defect the figures that need one are None, and held-out nominal images and synthetic defects, named as
    such, say what they can; seconds an image are those of the test images, and without any of these.

    Args:
        detector: a fitted one.
        table: the category's manifest; its root in ``table.attrs["root"]``.
        settings: sections ``data`` (mask threshold), ``evaluate``, ``calibrate.holdout`` and ``seed``; how
            images and masks are prepared is the detector's own.

    Raises:
        DataError: an image or mask cannot be read, a mask does not fit its image, or the detector was fitted
            on a test image or on one of its group.
    """
    root = Path(table.attrs["root"])
    test = table[table["split"] == "test"]
    left_out = contradicted(test)
    test = test[~left_out].reset_index(drop=True)
    _check_readable(test, root)
    check_disjoint(test, detector.training_set)
    share = settings.evaluate.choose_share
    chosen = choosing_part(test, share, settings.seed)
    choosing, test = test[chosen].reset_index(drop=True), test[~chosen].reset_index(drop=True)
    pixels = PixelRun(root, settings, detector)
    clock = _Clock()
    rows: list[dict[str, Any]] = []
    predictions = clock.time(detector.stream([root / path for path in test["path"]]))
    tracked = track(zip(test.itertuples(), predictions, strict=True), "evaluate", total=len(test))
    for row, prediction in tracked:
        pixels.add(row, prediction)
        rows.append(_row(row, prediction))
    scores = pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)

    calibration = detector.calibration
    threshold = None if calibration is None else calibration.threshold.value
    metrics, reasons = summarise_images(scores, threshold)
    metrics["review_threshold"] = None if calibration is None else calibration.review.value
    if calibration is None:
        reasons["review_threshold"] = reasons["threshold"]
    pixels.finish(metrics, reasons, settings.evaluate.aupro_limit)
    if share > 0:
        found = detector.stream([root / path for path in choosing["path"]])
        judge(
            choosing.assign(score=[one.score for one in found]), scores, settings.evaluate, metrics, reasons
        )
    metrics["n_train"] = len(training_rows(table))
    metrics["n_test"] = len(test)
    metrics["n_contradicted"] = int(left_out.sum())
    seconds = clock.seconds / len(test) if len(test) else None
    if not (test["label"] == 1).any():
        held = heldout_rows(detector, table)
        spent = evaluate_unlabelled(detector, held, test[test["label"] == 0], settings, metrics, reasons)
        seconds = spent if seconds is None else seconds
    scale = colour_scale(scores, calibration, metrics)
    return Evaluation(
        category=str(table["category"].iloc[0]) if len(table) else printable(root.name),
        metrics=metrics,
        defect_types=summarise_types(scores, threshold),
        not_available=reasons,
        timings={"seconds_per_image": seconds},
        table=scores.drop(columns=["map_median", "map_max"]),
        scale=scale,
        examples=_look_again(detector, test, scores, root, settings),
        pixels=pixels.histograms,
    )


def _row(row: Any, prediction: Prediction) -> dict[str, Any]:
    return {
        "path": row.path,
        "label": row.label,
        "defect_type": row.defect_type,
        "group": row.group,
        "score": float(prediction.score),
        "is_anomalous": prediction.is_anomalous,
        "map_median": float(np.median(prediction.anomaly_map)),
        "map_max": float(prediction.anomaly_map.max()),
    }


def _check_readable(test: pd.DataFrame, root: Path) -> None:
    bad = test[test["problem"].notna()]
    if len(bad):
        first = bad.iloc[0]
        raise DataError(
            f"{root / first['path']}: {first['problem']} ({len(bad)} test image(s) cannot be used); mend or "
            "remove them, `reconpatch data check` lists all"
        )


class _Clock:
    """Seconds spent inside an iterator, and not in what is done with its items."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, items: Iterator[_T]) -> Iterator[_T]:
        iterator = iter(items)
        while True:
            start = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - start
            yield item


def _look_again(
    detector: Detector, test: pd.DataFrame, scores: pd.DataFrame, root: Path, settings: Settings
) -> tuple[Example, ...]:
    """Maps of the chosen images, computed a second time rather than kept for all."""
    chosen = choose_examples(scores, settings.evaluate.pictures)
    predictions = detector.stream([root / scores["path"][index] for index in chosen])
    examples, calibration = [], detector.calibration
    for (index, reason), prediction in zip(chosen.items(), predictions, strict=True):
        row: Any = next(test.iloc[[index]].itertuples())
        examples.append(
            Example(
                path=row.path,
                reason=reason,
                defect_type=row.defect_type,
                score=float(prediction.score),
                is_anomalous=prediction.is_anomalous,
                image=prepare_image(read_image(root / row.path), detector.settings.features),
                mask=ground_truth(row, root, settings, detector),
                anomaly_map=prediction.anomaly_map,
                to_review=calibration is not None and calibration.band(prediction.score) == "review",
            )
        )
    return tuple(examples)
