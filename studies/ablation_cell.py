"""One cell of an ablation: a detector fitted and measured as the cell says."""

import time
from pathlib import Path

import pandas as pd

from reconpatch.detector import ReConPatch
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.settings import Settings, load_settings
from studies.ablation_grid import Cell
from studies.augmentation import augment

METRICS = ("image_auroc", "pixel_auroc", "aupro")
COPIES = 2  # of each nominal image, where the fit is augmented


def cell_settings(cell: Cell, settings: Settings, seed: int) -> Settings:
    """The study's parameters with the cell's own, and without pictures."""
    return load_settings(None, {**cell.changes, "seed": seed, "evaluate.pictures": 0}, base=settings)


def measure_cell(
    cell: Cell, table: pd.DataFrame, settings: Settings, copies: Path, cache: FeatureCache
) -> dict[str, float | int | None]:
    """Fit on the training rows of a manifest, measure on its test rows.

    Args:
        cell: the cell.
        table: the category's manifest; the augmentation is added here.
        settings: of `cell_settings`.
        copies: folder of the augmented images, which a later call finds there.
        cache: the feature cache.

    Returns:
        Every figure of the evaluation, None where not available, and the ``fit_seconds``.

    Raises:
        DataError: an image cannot be read, or the training and test images overlap.
        ModelError: the backbone or its weights cannot be had.
    """
    if cell.augmented:
        table = augment(table, copies, copies=COPIES, seed=settings.seed)
    start = time.perf_counter()
    detector = ReConPatch(settings=settings, cache=cache).fit(table)
    seconds = time.perf_counter() - start
    return {**evaluate(detector, table, settings).metrics, "fit_seconds": round(seconds, 2)}
