"""From what a request names or carries to pixels: hashed, measured by its header, then decoded.

The pixels of all images at hand stay below a budget, so that memory does not grow with the load.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding import image_size
from reconpatch.data.images import decode_image
from reconpatch.data.opening import read_below
from reconpatch.errors import DataError
from reconpatch.server.budget import Share
from reconpatch.server.options import ServerOptions

_PICTURE_SIDE = 800
_LONGEST_NAME = 120


class TooLargeError(DataError):
    """An image or a request goes beyond a limit."""


@dataclass(frozen=True)
class Upload:
    """One image of a request.

    Attributes:
        name: the file's name as the sender gave it, for people only.
        data: its encoded bytes.
    """

    name: str
    data: bytes


@dataclass(frozen=True)
class Picture:
    """One decoded image.

    Attributes:
        sha256: of the encoded bytes.
        pixels: (H, W, 3) uint8 RGB.
        jpeg: a smaller copy to look at.
    """

    sha256: str
    pixels: NDArray[np.uint8]
    jpeg: bytes


class PixelBudget:
    """How many pixels may be decoded at the same time."""

    def __init__(self, pixels: int) -> None:
        self._free = pixels
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, pixels: int) -> AsyncIterator[None]:
        """Wait until there is room for so many, at most all of the budget."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            async with self._freed:
                self._free += pixels
                self._freed.notify_all()


class Intake:
    """Reads, measures and decodes within the limits."""

    def __init__(self, options: ServerOptions, threads: int = 2) -> None:
        self._options = options
        self._budget = PixelBudget(2 * options.limits.image_pixels)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reconpatch-decode")

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=True)

    @asynccontextmanager
    async def decode(self, upload: Upload) -> AsyncIterator[Picture]:
        """The decoded image; its pixels count against the budget until the block ends.

        Raises:
            TooLargeError: it has too many pixels.
            DataError: it is no image, or a damaged one.
        """
        loop = asyncio.get_running_loop()
        width, height = await loop.run_in_executor(self._pool, _measure, upload)
        pixels, most = width * height, self._options.limits.image_pixels
        if pixels > most:
            raise TooLargeError(
                f"{upload.name}: {width} x {height} pixels; at most {most / 1e6:g} million are taken"
            )
        async with self._budget.take(pixels):
            yield await loop.run_in_executor(self._pool, _decode, upload)

    def read_path(self, path: str, share: Share) -> Upload:
        """An image by its path on this machine; its bytes count in the request's share before they are read.

        Raises:
            DataError: no root is allowed, the path does not lie under it, or it cannot be read.
            TooLargeError: the files that the request names are larger together than a request may be.
            OverloadedError: the bytes do not fit beside those of the other requests.
        """
        root = self._options.allowed_root
        if root is None:
            raise DataError("this server reads no paths; send the image, or start it with --allow-root")
        name, most = _printable(path), self._options.limits.request_bytes

        def admit(size: int) -> None:
            if share.held + size > most:
                raise TooLargeError(f"the images of a request may have {most >> 20} MiB together")
            share.take(size)

        try:
            return Upload(name, read_below(root, root / path, admit))
        except DataError as error:
            raise type(error)(f"{name}: {error}") from None


def upload_name(name: str | None) -> str:
    """The last part of a file's name as a sender gave it, printable and short."""
    return _printable((name or "image").replace("\\", "/").rpartition("/")[2]) or "image"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST_NAME]


def _measure(upload: Upload) -> tuple[int, int]:
    try:
        return image_size(upload.data)
    except DataError as error:
        raise DataError(f"{upload.name}: {error}") from None


def _decode(upload: Upload) -> Picture:
    pixels = decode_image(upload.data, upload.name)
    small = Image.fromarray(pixels)
    small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), reducing_gap=2.0)
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=85)
    return Picture(hashlib.sha256(upload.data).hexdigest(), pixels, stream.getvalue())
