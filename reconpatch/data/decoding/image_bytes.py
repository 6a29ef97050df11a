"""From the bytes of an image file to an upright picture, or a reason why not.

The functions raise `DataError` with the bare reason; `reconpatch.data.images` puts the file's name before it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reconpatch.data.decoding.costly_files import first_scan, refuse_costly
from reconpatch.data.decoding.opening import read_below, read_regular
from reconpatch.errors import DataError

# Formats by content, whatever the file is called. The list keeps out the ones whose decoders run other
# programs or interpret a language (EPS, WMF) and the ones nobody saves inspection images in.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "PPM", "GIF")
MAX_PIXELS = 89_478_485  # Pillow's own warning level: 256 MiB of RGB
MAX_BYTES = 1 << 30
_EIGHT_BIT_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_ORIENTATION_TAG = 0x0112
_PNG_END = b"IEND\xaeB`\x82"  # with its checksum
_JPEG_END = b"\xff\xd9"
_BITS_TAG, _PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 258, 262, 0


@dataclass(frozen=True)
class Decoded:
    """A decoded, upright picture and how it was stored.

    Attributes:
        image: the loaded picture, turned as its EXIF orientation says.
        mode: Pillow's mode as stored, such as ``L``, ``RGB``, ``P``, ``I;16``.
        bit_depth: bits a channel as stored (1, 2, 4, 8, 12, 16 or 32).
        orientation: EXIF orientation as stored, 1 to 8 (1: upright).
    """

    image: Image.Image
    mode: str
    bit_depth: int
    orientation: int


def read_bytes(path: Path) -> bytes:
    """All bytes of a regular file of at most 1 GiB.

    Raises:
        DataError: with the reason alone.
    """
    return read_regular(path, _admit)


def read_bytes_below(root: Path, path: Path) -> bytes:
    """The same of a file that lies below a folder, as `read_below` makes sure.

    Raises:
        DataError: with the reason alone.
    """
    return read_below(root, path, _admit)


def _admit(size: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"is larger than {MAX_BYTES >> 20} MiB; cut it into smaller images")


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) as the header states them, before any pixel is decoded.

    Raises:
        DataError: with the reason alone, where there is no header of a supported image.
    """
    with _reasons():
        refuse_costly(data)
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return image.size


def decode(data: bytes) -> Decoded:
    """Decode an encoded image to its last byte and turn it upright.

    Raises:
        DataError: with the reason alone, for anything that is no single, complete, supported image.
    """
    with _reasons():
        refuse_costly(data)
        return _decode(data)


@contextmanager
def _reasons() -> Iterator[None]:
    """Whatever a decoder raises becomes a `DataError`."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"holds no image of a known format ({', '.join(FORMATS)}); save it as one of these"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(_too_large()) from None
    except Exception as error:  # a damaged file can raise nearly anything from within a decoder
        raise DataError(f"is damaged or cut short ({error}); copy it again or remove it") from None


def _decode(data: bytes) -> Decoded:
    image = Image.open(BytesIO(data), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height}: {_too_large()}")
    # Whether there is a second frame; their number takes a look at each. What Pillow calls MPO is a JPEG as
    # phones write it: further views follow the one that viewers show.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise DataError("is animated or has several pages; save each as a file of its own")
    mode, bit_depth = image.mode, _bit_depth(image, data)
    orientation = int(image.getexif().get(_ORIENTATION_TAG, 1) or 1)
    inverted = mode.startswith("I;16") and _tag(image, _PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
    image.load()
    _check_complete(image.format, data)
    upright: Image.Image = image if orientation == 1 else ImageOps.exif_transpose(image)
    if mode.startswith("I;16"):
        upright = Image.fromarray(_full_range(upright, bit_depth, inverted))
    elif mode == "I" and image.format == "PPM":  # Pillow has scaled it to 0..65535
        upright = Image.fromarray(np.asarray(upright).astype(np.uint16))
    elif mode in ("I", "F"):
        raise DataError(
            f"has 32-bit or signed values (mode {mode}) without an agreed range; save 8 or 16 bits"
        )
    elif mode not in _EIGHT_BIT_MODES:
        raise DataError(f"has colours of mode {mode}; save it as RGB or grey")
    return Decoded(upright, mode, bit_depth, orientation)


def _full_range(image: Image.Image, bit_depth: int, inverted: bool) -> NDArray[np.uint16]:
    """Sixteen-bit grey values, so that the brightest value the file could hold is 65535."""
    values = np.left_shift(np.asarray(image).astype(np.uint16), np.uint16(16 - bit_depth))
    # Pillow inverts white-is-zero TIFF for 8 bits only.
    return np.invert(values) if inverted else values


def _bit_depth(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[24]  # in IHDR, always the first chunk
    stored = _tag(image, _BITS_TAG)
    if stored is not None:
        return int(max(stored)) if isinstance(stored, tuple) else int(stored)
    return {"1": 1, "I": 16}.get(image.mode, 8)


def _tag(image: Image.Image, tag: int) -> int | tuple[int, ...] | None:
    tags = getattr(image, "tag_v2", None)
    return None if tags is None else tags.get(tag)


def _check_complete(image_format: str | None, data: bytes) -> None:
    """Catch what Pillow forgives once it has all rows: wrong checksums and missing ends."""
    if image_format == "PNG":
        with Image.open(BytesIO(data), formats=("PNG",)) as fresh:
            fresh.verify()
        if data.rfind(_PNG_END) < 0:
            raise DataError("is cut short (no end chunk); copy it again or remove it")
    # From the first scan, since a thumbnail in EXIF has an end marker of its own.
    elif image_format in ("JPEG", "MPO") and data.find(_JPEG_END, first_scan(data)) < 0:
        raise DataError("is cut short (no end-of-image marker); copy it again or remove it")


def _too_large() -> str:
    return f"has more than {MAX_PIXELS / 1e6:.0f} million pixels; cut it into tiles"
