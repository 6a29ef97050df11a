"""The review table: what people said about images, one JSON line a verdict, only ever appended to.

A verdict belongs to an image's bytes, so it holds wherever a copy of the image turns up. Several processes
may append at once, and one that is killed leaves the table as it was or one verdict longer.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from reconpatch.errors import DataError

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
        who: the person.
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
        DataError: the table cannot be written.
    """
    line = review.model_dump_json().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as table:
            fcntl.flock(table, fcntl.LOCK_EX)
            table.truncate(_whole_bytes(table.seek(0, os.SEEK_END), path))
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
        DataError: the table cannot be read, or a line of it is no verdict.
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
    # What follows the last line end is an append that was killed, or is being written just now.
    whole = content[: content.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            yield Review.model_validate(json.loads(line))
        except (ValueError, ValidationError) as error:
            raise DataError(
                f"{path}: line {number} is no verdict ({str(error).splitlines()[0]}); mend or remove the line"
            ) from None


def _whole_bytes(size: int, path: Path) -> int:
    """How many of the table's bytes are whole lines."""
    with path.open("rb") as table:
        while size:
            start = max(0, size - 4096)
            table.seek(start)
            found = table.read(size - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
    return 0
