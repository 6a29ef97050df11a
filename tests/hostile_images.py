"""Small files that cost a decoder much: each is what its format allows, and none is what a camera writes."""

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

from PIL import Image


def scans_jpeg(scans: int = 7_000, side: int = 4_000) -> bytes:
    """A progressive JPEG whose last scan comes again and again; libjpeg goes over every block each time."""
    stream = BytesIO()
    Image.new("L", (side, side), 128).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + scans * data[last:end] + data[end:]


def fill_jpeg(count: int = 60 << 20) -> bytes:
    """A JPEG with fill bytes before its first segment."""
    return jpeg_with(b"\xff" * count)


def segments_jpeg(count: int = 10_000_000) -> bytes:
    """A JPEG with empty segments before its first one."""
    return jpeg_with(b"\xff\xef\x00\x02" * count)


def jpeg_with(inserted: bytes) -> bytes:
    """A grey JPEG with these bytes before its first segment."""
    stream = BytesIO()
    Image.new("L", (8, 8), 128).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + inserted + data[2:]


def pages_tiff(pages: int = 40_000) -> bytes:
    """A TIFF of one pixel a page, each page naming the next."""
    tags = ((256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1))
    length = 2 + 12 * len(tags) + 4
    body = struct.pack("<H", len(tags))
    body += b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    first = 10
    chain = b"".join(
        body + struct.pack("<I", first + (page + 1) * length if page + 1 < pages else 0)
        for page in range(pages)
    )
    return struct.pack("<2sHI", b"II", 42, first) + b"\x00\x00" + chain


def chunks_png(chunks: int = 3_000_000) -> bytes:
    """A PNG whose pixels come after empty chunks, each with a checksum of its own."""
    empty = _chunk(b"IDAT", b"")
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
        + empty * chunks
        + _chunk(b"IDAT", zlib.compress(bytes(9 * 8)))
        + _chunk(b"IEND", b"")
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def comments_ppm(count: int = 60 << 20) -> bytes:
    """A grey image with one long comment in its header."""
    return b"P5\n#" + b" " * count + b"\n1 1\n255\n0"


def ascii_ppm(side: int = 3_000) -> bytes:
    """An image whose values are written as decimal numbers."""
    return f"P3\n{side} {side}\n255\n".encode() + b"1 " * (3 * side * side)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of 7,000 further scans": scans_jpeg,
    "JPEG with 60 MiB of fill bytes": fill_jpeg,
    "JPEG with 10 million empty segments": segments_jpeg,
    "TIFF of 40,000 pages": pages_tiff,
    "PNG of 3 million empty chunks": chunks_png,
    "PPM with a comment of 60 MiB": comments_ppm,
    "PPM of 27 million decimal numbers": ascii_ppm,
}
