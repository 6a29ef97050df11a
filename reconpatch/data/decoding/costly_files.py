"""Files that cost a decoder far more than their picture explains, refused before a decoder sees them.

Pillow takes some formats apart in Python, a byte or a part at a time, and libjpeg goes over the whole picture
for each scan. What follows bounds the known ways to abuse that; `decoding_pool` bounds those not yet known.
"""

import re
import struct
from io import BytesIO

from PIL import Image

from reconpatch.errors import DataError

# The usual progressive script has 10 scans, scripts found by trial (mozjpeg) have fewer than 30.
MAX_SCANS = 100
# A segment holds 64 KiB: room for 256 MiB of notes before the picture.
MAX_SEGMENTS = 4096
# Between segments: a few writers align them so.
MAX_FILL = 1 << 16
# An honest PNG has chunks of some KiB (libpng: 8), beside a few short ones.
LEAST_CHUNK, SHORT_CHUNKS = 256, 1000
MAX_HEADER = 1 << 16  # of PPM, where comments belong to it

_PNG_START = b"\x89PNG\r\n\x1a\n"
_JPEG_START = b"\xff\xd8\xff"
_PPM_START = re.compile(rb"P[0-6fy]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})  # codes that no length follows
# In a scan's data 0xFF stands before a zero, a restart or another 0xFF, unless a marker follows.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILL = re.compile(rb"\xff+")
_AGAIN = "save it again as a plain PNG or JPEG"


def refuse_costly(data: bytes) -> None:
    """Look through the structure of an encoded image, in a time that its bytes alone decide.

    Raises:
        DataError: with the reason alone, for a file that no honest encoder writes.
    """
    if data.startswith(_PNG_START):
        _refuse_tiny_chunks(data)
    elif data.startswith(_JPEG_START):
        _refuse_costly_jpeg(data)
    elif _PPM_START.match(data):
        _refuse_long_header(data)


def first_scan(data: bytes) -> int:
    """Where the first scan of a JPEG starts; its length, where there is none.

    Raises:
        DataError: there are too many segments before it, or too many bytes between them.
    """
    place, fill = 2, 0
    for _ in range(MAX_SEGMENTS):
        start = data.find(b"\xff", place)
        run = None if start < 0 else _FILL.match(data, start)
        if run is None or run.end() >= len(data):
            return len(data)
        fill += run.end() - 1 - place
        if fill > MAX_FILL:
            raise DataError(f"has more than {MAX_FILL >> 10} KiB of filling between its segments; {_AGAIN}")
        code = data[run.end()]
        if code == _START_OF_SCAN:
            return run.end() - 1
        place = _after(data, run.end() + 1, code)
    raise DataError(f"has more than {MAX_SEGMENTS} segments before its picture; {_AGAIN}")


def _refuse_costly_jpeg(data: bytes) -> None:
    place, scans = first_scan(data), 0
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER_IN_SCAN.search(data, place)
        code = _END_OF_IMAGE if marker is None else data[marker.start() + 1]
        if marker is None or code == _END_OF_IMAGE:
            return
        scans += code == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise DataError(f"is a JPEG of more than {MAX_SCANS} scans; {_AGAIN}")
        place = _after(data, marker.end(), code)
    raise DataError(f"has more than {MAX_SEGMENTS} segments in its picture; {_AGAIN}")


def _after(data: bytes, place: int, code: int) -> int:
    """Where a segment ends whose marker with this code ends at ``place``."""
    if code in _ALONE:
        return place
    return place + max(2, int.from_bytes(data[place : place + 2], "big"))


def _refuse_tiny_chunks(data: bytes) -> None:
    most, count = SHORT_CHUNKS + len(data) // LEAST_CHUNK, 0
    place, length_and_name = len(_PNG_START), struct.Struct(">I4s")
    while place + length_and_name.size <= len(data):
        length, name = length_and_name.unpack_from(data, place)
        if name == b"IEND":
            return
        place += 12 + length
        count += 1
        if count > most:
            raise DataError(f"is a PNG of more than {most} chunks, most of them tiny; {_AGAIN}")


def _refuse_long_header(data: bytes) -> None:
    if len(data) <= MAX_HEADER:
        return
    try:
        Image.open(BytesIO(data[:MAX_HEADER]), formats=("PPM",)).close()
    except ValueError:  # the header goes on
        raise DataError(f"has a header of more than {MAX_HEADER >> 10} KiB; {_AGAIN}") from None
