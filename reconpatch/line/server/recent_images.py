"""The images that a server has just scored, kept in memory to be looked at and judged."""

import io
import secrets
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.evaluation.evaluation_result import ColourScale
from reconpatch.evaluation.report.heatmaps import colour_layer
from reconpatch.line.server.schemas import ImageResult

_FLOAT16_MAX = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class RecentImage:
    """One scored image.

    Attributes:
        result: what was answered.
        jpeg: the image, at most 800 pixels a side.
        anomaly_map: (S, S) float16, half the memory of the map at three digits.
        scale: the colour scale that the map belongs on; None: the detector was not calibrated.
        received: when.
    """

    result: ImageResult
    jpeg: bytes
    anomaly_map: NDArray[np.float16]
    scale: ColourScale | None
    received: datetime

    def map_png(self) -> bytes:
        """The map's colours, transparent where nothing is anomalous, as an RGBA PNG."""
        values = self.anomaly_map.astype(np.float32)
        scale = self.scale or ColourScale(float(values.min()), max(float(values.max()), values.min() + 1e-6))
        colours, opacity = colour_layer(values, scale)
        pixels = np.dstack([colours, 255 * opacity])
        stream = io.BytesIO()
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(stream, "PNG", compress_level=1)
        return stream.getvalue()

    def map_npy(self) -> bytes:
        """The map's values as an .npy file of float32."""
        stream = io.BytesIO()
        np.save(stream, self.anomaly_map.astype(np.float32), allow_pickle=False)
        return stream.getvalue()


class RecentImages:
    """The last images, newest first; older ones make room."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._images: OrderedDict[str, RecentImage] = OrderedDict()

    def add(self, image: RecentImage) -> None:
        """Keep an image under its result's id."""
        self._images[image.result.id] = image
        while len(self._images) > self._most:
            self._images.popitem(last=False)

    def get(self, identifier: str) -> RecentImage | None:
        """The image of that id, or None when it made room."""
        return self._images.get(identifier)

    def newest(self, count: int, category: str | None) -> list[RecentImage]:
        """At most ``count``, of one category or of all."""
        chosen = [
            image for image in reversed(self._images.values()) if category in (None, image.result.category)
        ]
        return chosen[:count]

    def review(self, identifier: str, verdict: Literal["good", "bad"]) -> None:
        """Note a person's verdict beside the image, if it is still there."""
        image = self._images.get(identifier)
        if image is not None:
            self._images[identifier] = replace(
                image, result=image.result.model_copy(update={"review": verdict})
            )


def new_id() -> str:
    """An id that cannot be guessed."""
    return secrets.token_hex(12)


def half(anomaly_map: NDArray[np.float32]) -> NDArray[np.float16]:
    """A map as float16, larger values cut to its largest."""
    return np.clip(anomaly_map, -_FLOAT16_MAX, _FLOAT16_MAX).astype(np.float16)
