"""What a calibration will be able to promise with the good images at hand, and how many it needs for more."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reconpatch.calibration.threshold import (
    DEFAULT_RATE,
    DEFAULT_REVIEW_RATE,
    default_rate,
    default_review_rate,
    groups_needed,
)
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.training_images import training_images
from reconpatch.errors import DataError
from reconpatch.settings import CalibrateSettings, Settings
from reconpatch.storage.atomic_files import sha256_file


@dataclass(frozen=True)
class Promise:
    """What can be promised, before anything is fitted.

    Attributes:
        images: good training images.
        groups: their groups.
        calibrating: groups that calibrate.
        settings: section ``calibrate``.
    """

    images: int
    groups: int
    calibrating: int
    settings: CalibrateSettings

    @property
    def rates(self) -> tuple[float, float]:
        """The smallest shares of good images rejected, and to review, that can be promised."""
        reject = default_rate(self.calibrating)
        return reject, default_review_rate(self.calibrating, reject)

    @property
    def wanted(self) -> tuple[float, float]:
        """The shares that are asked for; where nothing is, 1 % and 5 %."""
        reject = self.settings.false_reject_rate or DEFAULT_RATE
        return reject, max(self.settings.review_rate or DEFAULT_REVIEW_RATE, reject)

    @property
    def groups_needed(self) -> tuple[int, int]:
        """Calibrating groups that the wanted shares need."""
        reject, review = self.wanted
        # By default the limit for review is that of twice the smallest rate.
        return groups_needed(reject), groups_needed(review if self.settings.review_rate else review / 2)

    def images_needed(self, calibrating: int) -> int:
        """Good images in all of which so many groups calibrate, with as many images a group as now."""
        share = 1.0 if self.settings.calibration == "crossfit" else self.settings.holdout
        # A fit holds out the share of the images, rounded up.
        return math.ceil((math.floor((calibrating - 1) / share + 1e-9) + 1) * self.images / self.groups)

    def __str__(self) -> str:
        text = f"{self.images} good images in {self.groups} groups, of which {self.calibrating} calibrate"
        if self.settings.calibration == "holdout":
            text += f" (calibrate.holdout {self.settings.holdout:g})"
            if not self.settings.holdout:
                return f"{text}: no threshold and no verdicts"
        if not self.calibrating:
            text += ": no threshold and no verdicts"
        else:
            reject, review = (max(pair) for pair in zip(self.rates, self.wanted, strict=True))
            text += f": at most {100 * reject:.2g} % of good parts rejected, {100 * review:.2g} % to review"
        for rate, needed, what in zip(
            self.wanted, self.groups_needed, ("rejected", "to review"), strict=True
        ):
            if needed > self.calibrating:
                text += (
                    f"; {100 * rate:.2g} % {what} needs {needed} calibrating groups, about "
                    f"{self.images_needed(needed)} good images"
                )
        return text


def foresee(images: str | Path, settings: Settings, digest: Callable[[Path], str] = sha256_file) -> Promise:
    """What a fit on a category can promise; files are read, not decoded.

    Args:
        images: the category's folder.
        settings: ``data``, ``calibrate`` and ``seed``.
        digest: hex SHA-256 of a file's bytes.

    Raises:
        DataError: the category's images cannot be used.
    """
    training = training_images(images, settings.data)
    digests = [digest(path) for path in training.paths]
    split = split_nominal(training.paths, training.groups, digests, settings)
    return Promise(len(digests), len(set(split.groups)), split.calibrating_groups, settings.calibrate)


def promise_line(
    name: str, images: Path, settings: Settings, digest: Callable[[Path], str] = sha256_file
) -> str | None:
    """A promise as a line for people; None where the images cannot be used, which checks report."""
    try:
        return f"{name}: {foresee(images, settings, digest)}"
    except DataError:
        return None
