"""How much a detector loses on test images that are disturbed and otherwise the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.data.images import read_image
from reconpatch.data.reviews import contradicted
from reconpatch.errors import DataError
from reconpatch.evaluation.corruptions import CORRUPTIONS, Corruption
from reconpatch.evaluation.detector_protocol import Detector
from reconpatch.evaluation.ground_truth import counted_pixels, moved_defect, read_ground_truth
from reconpatch.evaluation.leak_check import check_disjoint
from reconpatch.evaluation.metrics.image_metrics import image_auroc
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.progress import track
from reconpatch.settings import Settings

METRICS = ("image_auroc", "pixel_auroc", "aupro")
UNDISTURBED = "none"
_AT_ONCE = 32  # images in memory


@dataclass(frozen=True)
class Robustness:
    """One detector under one disturbance.

    Attributes:
        detector: its name.
        corruption: name of the disturbance; ``none`` for the images as they are.
        strength: what is done, in words and units.
        figures: image AUROC, pixel AUROC and AUPRO in [0, 1]; the last two None without a mask.
        drops: what was lost of each against ``none``; None where not available.
    """

    detector: str
    corruption: str
    strength: str
    figures: tuple[float | None, ...]
    drops: tuple[float | None, ...]


def measure_robustness(
    detectors: Mapping[str, Detector],
    table: pd.DataFrame,
    settings: Settings,
    corruptions: Sequence[Corruption] = CORRUPTIONS,
) -> list[Robustness]:
    """Evaluate detectors on the test images as they are and under each disturbance.

    Every detector sees the same disturbed bytes. Thresholds play no part. A test image whose label a person
    contradicts is left out, as in `evaluate`.

    Args:
        detectors: fitted ones, by name.
        table: the category's manifest.
        settings: sections ``data`` (mask threshold) and ``evaluate`` (AUPRO's limit), and ``seed``.
        corruptions: the disturbances.

    Returns:
        A row a detector and disturbance, the undisturbed one first.

    Raises:
        DataError: a class has no test image, one cannot be read, or a detector was fitted on one.
    """
    test = table[(table["split"] == "test") & ~contradicted(table)].reset_index(drop=True)
    if test["label"].nunique() < 2:
        raise DataError(f"{table.attrs['root']}: needs good and defective test images to measure a drop")
    for detector in detectors.values():
        check_disjoint(test, detector.training_set)
    rows = []
    for name, detector in detectors.items():
        plain = _measure(detector, test, Path(table.attrs["root"]), settings, None)
        rows.append(Robustness(name, UNDISTURBED, "", plain, tuple(None for _ in METRICS)))
        for corruption in corruptions:
            found = _measure(detector, test, Path(table.attrs["root"]), settings, corruption)
            drops = tuple(
                None if before is None or after is None else before - after
                for before, after in zip(plain, found, strict=True)
            )
            rows.append(Robustness(name, corruption.name, corruption.strength, found, drops))
    return rows


def _measure(
    detector: Detector, test: pd.DataFrame, root: Path, settings: Settings, corruption: Corruption | None
) -> tuple[float | None, ...]:
    pixels, scores, marked = PixelMetrics(), [], 0
    name = UNDISTURBED if corruption is None else corruption.name
    for start in track(range(0, len(test), _AT_ONCE), f"robustness, {name}"):
        rows = test.iloc[start : start + _AT_ONCE]
        some = list(_disturbed(rows, root, settings, corruption))
        predictions = detector.stream([image for image, _ in some])
        for label, (_, mask), prediction in zip(rows["label"], some, predictions, strict=True):
            scores.append(float(prediction.score))
            prepared = None if mask is None else moved_defect(mask, detector)
            if label == 0:
                prepared = np.zeros(prediction.anomaly_map.shape, dtype=bool)
            # A defect that is marked nowhere, or no longer in the picture, is left out of pixel metrics.
            if prepared is not None:
                pixels.update(prepared, prediction.anomaly_map, counted_pixels(detector))
                marked += int(label)
    auroc = image_auroc(test["label"].to_numpy(), np.array(scores))
    if not marked:
        return auroc, None, None
    found = pixels.compute(settings.evaluate.aupro_limit)
    return auroc, found.pixel_auroc, found.aupro


def _disturbed(
    rows: pd.DataFrame, root: Path, settings: Settings, corruption: Corruption | None
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_] | None]]:
    """Images with their masks; a defect that no mask shows has None."""
    for row in rows.itertuples():
        image, mask = read_image(root / str(row.path)), read_ground_truth(row, root, settings)
        if corruption is not None:
            seed = settings.seed + int(str(row.Index))
            image, moved = corruption(image, np.zeros(image.shape[:2], bool) if mask is None else mask, seed)
            mask = None if mask is None else moved
        yield image, mask
