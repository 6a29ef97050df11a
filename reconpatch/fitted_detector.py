"""What every fitted detector can do, whatever it is made of."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch import nn

from reconpatch.calibration.calibration import Calibration
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import ModelError
from reconpatch.features.prefetch import ImageLike
from reconpatch.model.region import Region
from reconpatch.prediction import Prediction
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts


class FittedDetector(ABC):
    """A detector that scores images: a single one, an ensemble, or a unified model.

    Attributes:
        settings: all parameters, with this machine's device and threads.
    """

    settings: Settings

    @property
    @abstractmethod
    def member_parts(self) -> tuple[FittedParts, ...]:
        """What the fit of each member yielded; of anything but an ensemble one.

        Raises:
            ModelError: the detector has not been fitted.
        """

    @property
    @abstractmethod
    def calibration(self) -> Calibration | None:
        """What held-out nominal images said; None when none were held out."""

    @abstractmethod
    def stream(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[Prediction]:
        """Yield one prediction an image, in order, a batch at a time."""

    @abstractmethod
    def module(self) -> nn.Module:
        """The whole model from (B, S, S, 3) uint8 to scores, maps and verdicts, as it is exported."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write the detector's folder; it is complete or absent."""

    @property
    def training_set(self) -> TrainingSet:
        """The nominal images that it was fitted and calibrated on."""
        return self.member_parts[0].training_set

    @property
    def region(self) -> Region | None:
        """The region of interest at the time of the fit; None: the whole image."""
        return self.member_parts[0].region

    @property
    def threshold(self) -> float | None:
        """Image-score threshold from held-out nominal images; None when not calibrated."""
        return None if self.calibration is None else self.calibration.threshold.value

    def demand_calibration(self) -> Calibration:
        """The calibration.

        Raises:
            ModelError: there is none.
        """
        if self.calibration is None:
            raise ModelError(
                "the detector is not calibrated: fit it with calibrate.holdout above 0, then export it"
            )
        return self.calibration

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[Prediction]:
        """Score images; `stream` is the same without keeping every map in memory.

        Args:
            images: one or many of: a path, a PIL image, an (H, W, 3) uint8 RGB array, a grey (H, W) or
                (H, W, 1) array of uint8 or uint16.

        Raises:
            DataError: an image cannot be read, or something is no image; the message names it.
            ModelError: the detector is not fitted.
        """
        return list(self.stream(images))
