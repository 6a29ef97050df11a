"""What evaluation needs of a detector: any object of this shape can be evaluated."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reconpatch.calibration.calibration import Calibration
from reconpatch.data.training_images import TrainingSet
from reconpatch.model.region import Region
from reconpatch.settings import Settings


class Prediction(Protocol):
    """What a detector says of one image: score, verdict (None: not calibrated), (S, S) float32 map.

    ``path`` is the image's as it was given; None for an array.
    """

    @property
    def path(self) -> str | None: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def is_anomalous(self) -> bool | None: ...  # noqa: D102
    @property
    def anomaly_map(self) -> NDArray[np.float32]: ...  # noqa: D102


class Detector(Protocol):
    """A fitted detector: parameters, calibration (None: nothing was held out), training set, `stream`.

    Its region of interest is None where all of an image counts.
    """

    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def calibration(self) -> Calibration | None: ...  # noqa: D102
    @property
    def training_set(self) -> TrainingSet: ...  # noqa: D102
    @property
    def region(self) -> Region | None: ...  # noqa: D102

    def stream(self, images: Iterable[Path | NDArray[np.uint8]]) -> Iterator[Any]:
        """Yield one `Prediction` an image, in order, without keeping every map in memory."""
        ...
