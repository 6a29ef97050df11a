"""What an evaluation yields, and the names of its files."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms

METRICS, SCORES, REPORT = "metrics.json", "scores.csv", "report.html"
PIXELS = "pixel_histograms.safetensors"


@dataclass(frozen=True)
class ColourScale:
    """The one colour scale of a category, so that its pictures can be compared.

    Attributes:
        low: map value of the first colour.
        high: map value of the last colour; larger values share it.
        contour: map value at which a contour is drawn; None draws none.
        contour_name: what that value is, for a legend.
    """

    low: float
    high: float
    contour: float | None = None
    contour_name: str = ""


@dataclass(frozen=True)
class Example:
    """One test image chosen to be looked at.

    Attributes:
        path: as in the manifest.
        reason: why it was chosen, such as ``"lowest defective score"``.
        defect_type: ``good`` when nominal.
        score: image score.
        is_anomalous: verdict at the detector's threshold; None when it has none.
        to_review: whether it is accepted but in the band that a person should look at.
        image: (S, S, 3) uint8, as the network saw it.
        mask: (S, S) bool; None when there is no ground truth.
        anomaly_map: (S, S) float32.
    """

    path: str
    reason: str
    defect_type: str
    score: float
    is_anomalous: bool | None
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    anomaly_map: NDArray[np.float32]
    to_review: bool = False


@dataclass(frozen=True)
class Evaluation:
    """Everything known of a detector on one category.

    Attributes:
        category: its name.
        metrics: values that the same inputs give again byte for byte; None where not available.
        defect_types: per type: n, image_auroc, detection_rate.
        not_available: metric -> why it is None.
        timings: values that differ from run to run, in seconds.
        table: a row a test image: path, label, defect_type, group, score, is_anomalous.
        scale: the category's colour scale; None without a test image.
        examples: images to look at, with maps on that scale.
        pixels: a histogram of map values an image of the table, for comparisons; None writes none.
    """

    category: str
    metrics: dict[str, float | int | None]
    defect_types: dict[str, dict[str, float | int | None]]
    not_available: dict[str, str]
    timings: dict[str, float | None]
    table: pd.DataFrame
    scale: ColourScale | None = None
    examples: tuple[Example, ...] = field(default=())
    pixels: PixelHistograms | None = None

    def to_dict(self) -> dict[str, Any]:
        """All values as one JSON object, timings included."""
        return {**self.deterministic(), **self.timings}

    def deterministic(self) -> dict[str, Any]:
        """The values without the timings, as one JSON object."""
        return {
            **self.metrics,
            "category": self.category,
            "defect_types": self.defect_types,
            "not_available": self.not_available,
        }
