"""Images as RGB and masks as booleans: read right, or refused with a reason.

How awkward images are read: 16 bits keep their full range (``value >> 8``, never clipped or stretched);
grey is repeated; palettes are looked up; transparency is laid over white (over black in a mask); CMYK is
converted; EXIF orientation is applied; colour profiles are ignored; content decides, not the name's ending.
Refused are animations and multi-page files, more than 89 million pixels, 32-bit values, and anything that
cannot be decoded to its last byte. Bit errors inside a JPEG cannot be seen: the format has no checksum.

What is here decodes in the calling process and cannot be stopped: it is for files that the caller trusts, as
`predict` and `fit` use it. For images of strangers there is `decoding_pool`.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from reconpatch.data.decoding.image_bytes import Decoded, decode, read_bytes
from reconpatch.data.image_statistics import measure_image_statistics
from reconpatch.errors import DataError

_LAST_CLASS = 15  # of masks that hold numbers of classes; grey levels up to here are all but black


@dataclass(frozen=True)
class ImageProbe:
    """What one look at an image file tells.

    Attributes:
        sha256: of the file's bytes; None when they cannot be read.
        width: pixels after EXIF rotation; None (as all below) when the image is refused.
        height: likewise.
        mode: Pillow's mode as stored.
        bit_depth: bits a channel as stored.
        orientation: EXIF orientation as stored, 1 to 8.
        perceptual_hash: as `ImageStatistics`, as are the next three.
        brightness: mean grey value, 0 to 255.
        contrast: standard deviation of the grey values.
        sharpness: variance of their Laplacian.
        problem: why the image is refused; None when it can be used.
    """

    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    bit_depth: int | None = None
    orientation: int | None = None
    perceptual_hash: str | None = None
    brightness: float | None = None
    contrast: float | None = None
    sharpness: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class MaskProbe:
    """What one look at a mask file tells: as `ImageProbe`, and two shares of its pixels.

    Attributes:
        area: those that are defective.
        grey: those that are neither 0 nor the value of a binary mask (255, or 1 where nothing is brighter),
            so that the threshold decides about them, or that they are numbers of classes.
    """

    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    area: float | None = None
    grey: float | None = None
    problem: str | None = None


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8 RGB.

    Raises:
        DataError: the file is missing, damaged, or of a kind that is refused (see the module).
    """
    try:
        return _rgb(decode(read_bytes(Path(path))))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """The same from encoded bytes; ``name`` stands in messages.

    Raises:
        DataError: as `read_image`.
    """
    try:
        return _rgb(decode(data))
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def image_array(image: Image.Image | NDArray[Any]) -> NDArray[np.uint8]:
    """The same from a PIL image, opened from a file or made in memory, or from an array.

    Args:
        image: an array is (H, W, 3) uint8 RGB, which is given back as it is, or grey: (H, W) or (H, W, 1), of
            uint8 or uint16, read as a grey file of these values is.

    Raises:
        DataError: its data are cut short, its values are 32-bit or no colours, or the array is another one;
            names no file.
    """
    if isinstance(image, np.ndarray):
        return _rgb_of_array(image)
    try:
        upright: Image.Image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError) as error:
        raise DataError(f"is damaged or cut short ({error}); copy it again or remove it") from None
    if upright.mode in ("I", "F"):
        raise DataError(f"has 32-bit values (mode {upright.mode}) without an agreed range; give 8 or 16 bits")
    return _rgb(Decoded(upright, image.mode, bit_depth=8, orientation=1))


def _rgb_of_array(values: NDArray[Any]) -> NDArray[np.uint8]:
    grey = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if grey.ndim == 2 and grey.size and grey.dtype in (np.uint8, np.uint16):
        eight = grey if grey.dtype == np.uint8 else (grey >> 8).astype(np.uint8)
        return np.repeat(eight[..., None], 3, axis=2)
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8 or not values.size:
        raise DataError(
            f"is an array of shape {values.shape} and type {values.dtype}; give (height, width, 3) uint8 "
            "RGB, or grey as (height, width) of uint8 or uint16"
        )
    return values


def read_mask(path: Path, threshold: int) -> NDArray[np.bool_]:
    """Read a mask as (H, W) bool, True where it is brighter than ``threshold``.

    A colour mask counts by its brightest channel. Where the brightest value is at most 15 the values are
    numbers of classes, and all but 0 are defective. A 16-bit mask that holds no more than 8-bit values is
    read as 8 bits.

    Args:
        path: the mask's file.
        threshold: 0 to 254, on the scale of 8 bits.

    Raises:
        DataError: as `read_image`.
    """
    try:
        return _defective(_mask_values(decode(read_bytes(Path(path)))), threshold)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def probe_image(path: Path) -> ImageProbe:
    """Hash and decode an image file once; a refused one has a ``problem`` and raises nothing."""
    digest: str | None = None
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        decoded = decode(data)
        picture = _picture(decoded)
    except DataError as error:
        return ImageProbe(sha256=digest, problem=str(error))
    return ImageProbe(
        digest,
        *picture.size,
        mode=decoded.mode,
        bit_depth=decoded.bit_depth,
        orientation=decoded.orientation,
        **asdict(measure_image_statistics(picture)),
    )


def probe_mask(path: Path, threshold: int) -> MaskProbe:
    """Hash and decode a mask file once; a refused one has a ``problem`` and raises nothing."""
    digest: str | None = None
    try:
        data = read_bytes(path)
        digest = hashlib.sha256(data).hexdigest()
        values = _mask_values(decode(data))
    except DataError as error:
        return MaskProbe(sha256=digest, problem=str(error))
    height, width = values.shape
    grey = (values > 0) & (values != values.dtype.type(1 if _holds_classes(values) else 255))
    return MaskProbe(digest, width, height, float(_defective(values, threshold).mean()), float(grey.mean()))


def _picture(decoded: Decoded) -> Image.Image:
    """The image as mode RGB or L, eight bits a channel."""
    if decoded.image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(decoded.image) >> 8).astype(np.uint8))
    return _flattened(decoded.image, background="white")


def _rgb(decoded: Decoded) -> NDArray[np.uint8]:
    return np.array(_picture(decoded).convert("RGB"))


def _mask_values(decoded: Decoded) -> NDArray[Any]:
    """(H, W) integers, 0 to 255."""
    image = decoded.image
    if image.mode.startswith("I;16"):
        values: NDArray[Any] = np.asarray(image)
        return values >> 8 if values.max() > 255 else values
    if image.mode == "L" and not image.has_transparency_data:
        return np.asarray(image)
    brightest: NDArray[np.uint8] = np.array(_flattened(image, background="black").convert("RGB")).max(axis=2)
    return brightest


def _defective(values: NDArray[Any], threshold: int) -> NDArray[np.bool_]:
    defective: NDArray[np.bool_] = values > (0 if _holds_classes(values) else threshold)
    return defective


def _holds_classes(values: NDArray[Any]) -> bool:
    return bool(values.max() <= _LAST_CLASS)


def _flattened(image: Image.Image, background: str) -> Image.Image:
    """Mode RGB, or L as it was; what is transparent shows ``background``."""
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer)
    return image if image.mode in ("RGB", "L") else image.convert("RGB")
