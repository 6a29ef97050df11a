"""Decode the images of requests: read, hash, measure by the header, then decode.

The pixels of all images in memory stay below a budget, so that memory does not grow with the load.
"""

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding.decoding_pool import DecodingPool, DecodingStoppedError
from reconpatch.data.decoding.opening import read_below
from reconpatch.errors import DataError
from reconpatch.line.server.byte_budget import Share
from reconpatch.line.server.prediction_queue import OverloadedError
from reconpatch.line.server.server_options import ServerOptions

# Twice as many as hostile images that come together can hold up: an image waits for a free process.
_PROCESSES = 4
_PICTURE_SIDE = 800
_LONGEST_NAME = 120
_T = TypeVar("_T")


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
        """Wait until ``pixels`` fit, at most the whole budget."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._free >= pixels)
            self._free -= pixels
        try:
            yield
        finally:
            async with self._freed:
                self._free += pixels
                self._freed.notify_all()


class ImageDecoder:
    """Reads, measures and decodes within the limits; a process that exceeds its deadline is ended."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        # No request waits longer for an answer.
        self._seconds = min(options.limits.decode_seconds, options.limits.seconds)
        self._budget = PixelBudget(2 * options.limits.image_pixels)
        self._processes = DecodingPool(_PROCESSES)
        # Each waits for a process; the processes are started when they are needed.
        self._threads = ThreadPoolExecutor(_PROCESSES, thread_name_prefix="reconpatch-decode")

    def close(self) -> None:
        """End its processes without waiting for their work."""
        self._processes.close()
        self._threads.shutdown(wait=False)

    @property
    def is_overdue(self) -> bool:
        """Whether an image's time is over and its process is still there."""
        return self._processes.is_overdue

    @asynccontextmanager
    async def decode(self, upload: Upload) -> AsyncIterator[Picture]:
        """The decoded image; its pixels count against the budget until the block ends.

        Raises:
            TooLargeError: it has too many pixels.
            DataError: it is no image, a damaged one, or one that takes too long.
            OverloadedError: the server ends.
        """
        width, height = await self._run(self._measure, upload)
        pixels, most = width * height, self._options.limits.image_pixels
        if pixels > most:
            raise TooLargeError(
                f"{upload.name}: {width} x {height} pixels; at most {most / 1e6:g} million are taken"
            )
        async with self._budget.take(pixels):
            yield await self._run(self._decode, upload)

    async def _run(self, work: Callable[[Upload], _T], upload: Upload) -> _T:
        if self._processes.is_closed:
            raise OverloadedError
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, upload)
        except DecodingStoppedError:
            if self._processes.is_closed:
                raise OverloadedError from None
            raise

    def _measure(self, upload: Upload) -> tuple[int, int]:
        try:
            return self._processes.size(upload.data, self._seconds)
        except DataError as error:
            raise type(error)(f"{upload.name}: {error}") from None

    def _decode(self, upload: Upload) -> Picture:
        pixels = self._processes.image(upload.data, upload.name, self._seconds)
        small = Image.fromarray(pixels)
        small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), reducing_gap=2.0)
        stream = io.BytesIO()
        small.save(stream, "JPEG", quality=85)
        return Picture(hashlib.sha256(upload.data).hexdigest(), pixels, stream.getvalue())

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
