"""What an evaluation yields, and how it lies in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms
from reconpatch.storage.atomic_files import atomic_file, write_json
from reconpatch.text.csv_files import write_frame

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

    def write(self, folder: Path, lineage: Mapping[str, Any] | None = None) -> None:
        """Write metrics.json, scores.csv, pixel histograms, report.html and its pictures, each atomically.

        The timings stay out, so that equal evaluations are equal bytes. Pictures of an earlier evaluation
        that this one has not are removed.

        Args:
            folder: made when missing.
            lineage: facts on data and model for the report, such as digests and versions.
        """
        # Drawing brings matplotlib along, which a caller who only wants numbers need not load.
        from reconpatch.evaluation.report.html_report import PICTURES, draw_pictures, render_report

        write_json(folder / METRICS, self.deterministic())
        write_frame(folder / SCORES, self.table)
        if self.pixels is not None:
            self.pixels.save(folder / PIXELS)
        pictures = draw_pictures(self)
        for name in PICTURES:
            (folder / f"{name}.png").unlink(missing_ok=True)
        for name, data in pictures.items():
            with atomic_file(folder / f"{name}.png") as temporary:
                temporary.write_bytes(data)
        with atomic_file(folder / REPORT) as temporary:
            temporary.write_text(render_report(self, pictures, lineage or {}), encoding="utf-8")
