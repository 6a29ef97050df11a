"""What a detector says of one image."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.calibration.calibration import Band, Calibration
from reconpatch.errors import DataError
from reconpatch.features.patch_features import ImageLike

_TOGETHER = 64  # images that are scored again, one by one, where one of them cannot be read

_LOG = logging.getLogger(__name__)
_IMAGES = (str, Path, np.ndarray, Image.Image)
_ACCEPTED = (
    "give paths, arrays or PIL images (of encoded bytes: PIL.Image.open(io.BytesIO(data))), one or a list"
)


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one image.

    Attributes:
        path: the image's path as it was given; None for an array or a PIL image.
        score: image score, larger is more anomalous: a distance in feature space, 0 or larger, or of an
            ensemble robust standard deviations above a typical nominal image.
        is_anomalous: whether the score lies above the threshold; None when not calibrated.
        anomaly_map: (S, S) float32 in the same units of pixels, S = ``features.image_size``; outside the
            region of interest 0, or of an ensemble what its members give for a distance of 0.
        embedding: (E,) float16, what the frozen network saw in a few numbers (`summarise_patches`).
        false_reject_probability: the score on a scale that people can read: how probable a score as large is
            for a good image, in [1/(n+1), 1] with n calibration groups; None when not calibrated.
        band: ``accept``, ``review`` or ``reject``; None when not calibrated.
    """

    path: str | None
    score: float
    is_anomalous: bool | None
    anomaly_map: np.ndarray
    embedding: np.ndarray
    false_reject_probability: float | None = None
    band: Band | None = None


def with_verdict(
    path: str | None,
    score: float,
    anomaly_map: np.ndarray,
    embedding: np.ndarray,
    calibration: Calibration | None,
) -> Prediction:
    """A score with what the calibration makes of it; without one it is a score alone."""
    if calibration is None:
        return Prediction(path, score, None, anomaly_map, embedding)
    probability = float(calibration.nominal.false_reject_probability(score))
    band = calibration.band(score)
    return Prediction(path, score, band == "reject", anomaly_map, embedding, probability, band)


def as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """One image or many as a list.

    Raises:
        DataError: something is no image; the message names its place.
    """
    if isinstance(images, _IMAGES):
        return [images]
    if isinstance(images, (bytes, bytearray, memoryview)) or not isinstance(images, Iterable):
        raise DataError(f"the image is {_kind(images)}; {_ACCEPTED}")
    listed = list(images)
    for place, image in enumerate(listed):
        if not isinstance(image, _IMAGES):
            raise DataError(f"image {place} of the list is {_kind(image)}; {_ACCEPTED}")
    return listed


def _kind(thing: object) -> str:
    return "None" if thing is None else f"of type {type(thing).__name__}"


def stream_readable(
    stream: Callable[[list[Path]], Iterator[Prediction]], images: Sequence[Path], problems: dict[Path, str]
) -> Iterator[Prediction]:
    """Predictions of the image files that can be read, in order; one that cannot ends nothing.

    Args:
        stream: of a detector.
        images: the files.
        problems: filled with why a file has no prediction.
    """
    for start in range(0, len(images), _TOGETHER):
        together, done = list(images[start : start + _TOGETHER]), 0
        try:
            for prediction in stream(together):
                done += 1
                yield prediction
        except DataError as error:
            _LOG.debug("images are scored one by one: %s", error)
            for image in together[done:]:
                try:
                    yield from stream([image])
                except DataError as reason:
                    problems[image] = str(reason)
