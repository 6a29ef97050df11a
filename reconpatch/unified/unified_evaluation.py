"""Figures of a unified model: of each category by name, and of images whose category is not told."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from reconpatch.data.manifest import join_manifests
from reconpatch.data.reviews import contradicted
from reconpatch.data.training_images import TrainingSet
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.evaluation_result import Evaluation
from reconpatch.evaluation.leak_check import check_disjoint
from reconpatch.settings import Settings
from reconpatch.settings.pipeline_sections import ALL
from reconpatch.unified.unified_detector import Unified

# Figures that are told of every category beside those of the whole; the first three have a mean over all.
_HEADLINES = ("image_auroc", "pixel_auroc", "aupro")
_TOLD = (*_HEADLINES, "image_f1_max", "detection_rate", "false_reject_rate")


def evaluate_category(
    detector: Unified, category: str | None, table: pd.DataFrame, settings: Settings
) -> Evaluation:
    """Measure a unified model on the test images of a category's manifest.

    Args:
        detector: a fitted one.
        category: whose bank and threshold count; None: not known, all banks and the pooled threshold.
        table: the category's manifest.
        settings: as for `evaluate`.

    Raises:
        DataError: as `evaluate`; f and the shared bank must not know a test image from any category.
    """
    known = detector.training_set
    # By content alone: groups of different categories may share a name.
    test = table[table["split"] == "test"]
    check_disjoint(test[~contradicted(test)], TrainingSet(known.fit, known.holdout))
    return evaluate(detector if category is None else detector.of_category(category), table, settings)


def evaluate_all(
    detector: Unified, tables: Mapping[str, pd.DataFrame], root: Path, settings: Settings
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Measure a unified model on the test images of all its categories.

    Args:
        detector: a fitted one.
        tables: the categories' manifests, by name.
        root: the folder that holds the categories' folders under these names.
        settings: as for `evaluate`.

    Returns:
        The model as it stands: no category is told, so all banks and the pooled threshold count. Among its
        metrics are those of each category told (``brick.image_auroc``) and their means (``mean_image_auroc``;
        None where one is not available). And the evaluations by category, each with its bank and threshold.

    Raises:
        DataError: as `evaluate_category`.
    """
    named = {name: evaluate_category(detector, name, table, settings) for name, table in tables.items()}
    whole = evaluate_category(detector, None, join_manifests(tables, root), settings)
    metrics, reasons = dict(whole.metrics), dict(whole.not_available)
    for name, one in named.items():
        metrics |= {f"{name}.{key}": value for key, value in one.metrics.items() if _is_told(key)}
        reasons |= {f"{name}.{key}": reason for key, reason in one.not_available.items() if _is_told(key)}
    for key in _HEADLINES:
        values = [one.metrics[key] for one in named.values()]
        absent = [name for name, one in named.items() if one.metrics[key] is None]
        metrics[f"mean_{key}"] = None if absent else sum(value or 0 for value in values) / len(values)
        if absent:
            reasons[f"mean_{key}"] = f"not available of {', '.join(absent)}"
    return replace(whole, category=ALL, metrics=metrics, not_available=reasons), named


def _is_told(key: str) -> bool:
    return key.removesuffix("_low").removesuffix("_high") in _TOLD
