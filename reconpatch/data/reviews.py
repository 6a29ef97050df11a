"""The review table: what people said about images, one JSON line a verdict, only ever appended to.

A verdict belongs to an image's bytes, so it holds wherever a copy of the image turns up. Several processes
may append at once, and one that is killed leaves the table as it was or one verdict longer.
"""

import json
import logging
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

import pandas as pd
from filelock import lock_descriptor
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reconpatch.data.file_listing import has_control_characters
from reconpatch.errors import DataError

_LOG = logging.getLogger(__name__)
_FIRST_BYTES = b'{"image_sha256":"'
_START = re.compile(rb'\{\s*"image_sha256"\s*:\s*"')
_CHUNK_BYTES = 4096
_POLL_SECONDS = 0.01  # an append takes a few milliseconds
_LINE_ENDS = 2  # that enclose the last whole line

COLUMNS = {
    "image_sha256": "string",
    "verdict": "string",
    "who": "string",
    "when": "datetime64[us, UTC]",
    "model_version": "string",
}


class Review(BaseModel):
    """One person's verdict on one image.

    Attributes:
        image_sha256: hex SHA-256 of the image file's bytes.
        verdict: ``good`` or ``bad`` (the part, not the picture).
        who: the person; `append_review` takes no control characters in it.
        when: time with its zone; default: now.
        model_version: the detector that the person was shown, as whoever asked names it; None: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    verdict: Literal["good", "bad"]
    who: str = Field(min_length=1)
    when: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    model_version: str | None = None


def append_review(path: Path, review: Review) -> None:
    """Append a verdict; when this returns it is on the disk.

    Args:
        path: the table, such as ``reviews.jsonl``; it is made when it is missing.
        review: the verdict.

    Raises:
        DataError: ``who`` holds control characters, the file is no review table, or it cannot be written; it
            is then as it was.
    """
    if has_control_characters(review.who):
        raise DataError(
            f"who: {review.who!r} holds a line end or another control character; give a name without"
        )
    line = review.model_dump_json().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as table:
            lock_descriptor(table.fileno(), poll_interval=_POLL_SECONDS)
            if _mend_end(table, path):
                line = b"\n" + line
            table.write(line)
            table.flush()
            os.fsync(table.fileno())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}); look at space and permissions"
        ) from None


def read_reviews(path: Path) -> pd.DataFrame:
    """The verdict that holds for each image: the one appended last.

    Args:
        path: the table; one that does not exist holds no verdict.

    Returns:
        One row an image with the columns and types of `COLUMNS`, sorted by ``image_sha256``.

    Raises:
        DataError: the table cannot be read, or a line of it is no verdict. What a killed append left of a
            line at its end is passed over.
    """
    latest = {review.image_sha256: review.model_dump() for review in _read(path)}
    rows = [latest[digest] for digest in sorted(latest)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _read(path: Path) -> Iterator[Review]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if number == len(lines) and _is_torn(line, follows_verdict=number > 1):
            return  # the next append removes it, or another process writes it just now
        yield _parse(line, f"{path}: line {number}")


def _parse(line: bytes, where: str) -> Review:
    try:
        return Review.model_validate(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is no verdict ({str(error).splitlines()[0]}); mend or remove the line"
        ) from None


def _is_torn(tail: bytes, *, follows_verdict: bool) -> bool:
    """Whether what follows the last line end is empty or the beginning of a verdict, as a kill leaves it.

    Args:
        tail: the bytes.
        follows_verdict: whether a line precedes it; a file without one is not shown to be a review table, and
            must itself tell by enough of a verdict.
    """
    written = tail.rstrip(b"\0")  # which a power cut may leave where bytes were to come
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        begins = _START.match(written) is not None
        return not tail or begins or (follows_verdict and _FIRST_BYTES.startswith(written))
    return False


def _mend_end(table: IO[bytes], path: Path) -> bool:
    """Remove a torn verdict at the end.

    Returns:
        Whether the last line, a whole verdict, lacks its line end, as an editor may leave it.

    Raises:
        DataError: the file ends in anything else, so it is no review table.
    """
    size = table.seek(0, os.SEEK_END)
    if not size:
        return False
    ends = _last_lines(table, size)
    tail = ends.pop()
    if ends:
        _parse(ends[-1], f"{path}: is no review table, or damaged: its last line")
    if _is_torn(tail, follows_verdict=bool(ends)):
        if tail:
            _LOG.warning("%s: a verdict that was not written whole is removed: %r", path, tail)
            table.truncate(size - len(tail))
        return False
    _parse(tail, f"{path}: is no review table, or damaged: its end")
    return True


def _last_lines(table: IO[bytes], size: int) -> list[bytes]:
    """What follows the last line end, and before it the last line where there is one."""
    end, start = b"", size
    while start and end.count(b"\n") < _LINE_ENDS:
        step = min(_CHUNK_BYTES, start)
        start -= step
        table.seek(start)
        end = table.read(step) + end
    return end.split(b"\n")[-_LINE_ENDS:]
