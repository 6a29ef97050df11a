"""Pictures for places that take no large ones, such as a database."""

import io
from pathlib import Path

from PIL import Image

_STEPS = 16  # widths that are tried, from the whole one down
_QUALITY = 80


def bounded_picture(path: Path, most: int) -> tuple[str, bytes]:
    """A PNG file as it is where it is small enough, else as the largest JPEG that is.

    Args:
        path: the file.
        most: bytes allowed.

    Returns:
        The media type and the picture, at most ``most`` bytes.

    Raises:
        ValueError: it does not fit at a sixteenth of its width.
    """
    data = path.read_bytes()
    if len(data) <= most:
        return "image/png", data
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("RGB")
    for share in range(_STEPS, 0, -1):
        size = [max(1, side * share // _STEPS) for side in picture.size]
        stream = io.BytesIO()
        picture.resize((size[0], size[1])).save(stream, format="JPEG", quality=_QUALITY)
        if stream.tell() <= most:
            return "image/jpeg", stream.getvalue()
    raise ValueError(f"{path}: does not fit into {most} bytes")
