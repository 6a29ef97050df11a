"""Reviews: what people say about images, in the line's review table and as part of a category's data.

A review belongs to an image's bytes, so it holds wherever a copy of the image turns up. The review table has
one JSON line a review and is only ever appended to: several processes may append at once, and a killed
process leaves the table as it was or one review longer. The table grows while models are made, so ingest
copies the reviews of a category's images into ``reviews.csv`` beside its ``groups.csv``: each version of the
data holds the reviews that its models and figures honour.
"""

import csv
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pandas as pd
from filelock import lock_descriptor
from numpy.typing import NDArray
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from reconpatch.data.file_listing import has_control_characters
from reconpatch.errors import DataError
from reconpatch.text.csv_files import line_of, read_records, write_rows

_LOG = logging.getLogger(__name__)
_FIRST_BYTES = b'{"image_sha256":"'
_START = re.compile(rb'\{\s*"image_sha256"\s*:\s*"')
_CHUNK_BYTES = 4096
_POLL_SECONDS = 0.01  # an append takes a few milliseconds
_LINE_ENDS = 2  # that enclose the last whole line

REVIEWS_FILE = "reviews.csv"
GOOD, BAD = "good", "bad"
_CSV_COLUMNS = ("path", "sha256", "verdict", "who", "when")
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
    """Append a review; when this returns it is on the disk.

    Args:
        path: the table, such as ``reviews.jsonl``; it is made when it is missing.
        review: what is appended.

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
    """The review that holds for each image: the one appended last.

    Args:
        path: the table; one that does not exist holds no review.

    Returns:
        One row an image with the columns and types of `COLUMNS`, sorted by ``image_sha256``.

    Raises:
        DataError: the table cannot be read, or a line is not a review. What a killed append left of a
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
        if number == len(lines) and _is_torn(line, follows_review=number > 1):
            return  # the next append removes it, or another process writes it just now
        yield _parse(line, f"{path}: line {number}")


def _parse(line: bytes, where: str) -> Review:
    try:
        return Review.model_validate(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is no review ({str(error).splitlines()[0]}); mend or remove the line"
        ) from None


def _is_torn(tail: bytes, *, follows_review: bool) -> bool:
    """Whether what follows the last line end is empty or the beginning of a review, as a kill leaves it.

    Args:
        tail: the bytes.
        follows_review: whether a line precedes it; a file without one is not shown to be a review table, and
            must itself tell by enough of a review.
    """
    written = tail.rstrip(b"\0")  # which a power cut may leave where bytes were to come
    try:
        json.loads(written)
    except (ValueError, RecursionError):
        begins = _START.match(written) is not None
        return not tail or begins or (follows_review and _FIRST_BYTES.startswith(written))
    return False


def _mend_end(table: IO[bytes], path: Path) -> bool:
    """Remove a torn review at the end.

    Returns:
        Whether the last line, a whole review, lacks its line end, as an editor may leave it.

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
    if _is_torn(tail, follows_review=bool(ends)):
        if tail:
            _LOG.warning("%s: a review that was not written whole is removed: %r", path, tail)
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


def read_data_reviews(root: Path) -> dict[str, Review]:
    """The reviews in the ``reviews.csv`` of the category at ``root``; none where it has no such file.

    Returns:
        By the image's path below ``root`` when the file was written, posix; the hash is what counts.

    Raises:
        DataError: the file cannot be read, or one of its lines is not a review.
    """
    table = root / REVIEWS_FILE
    if not table.is_file():
        return {}
    try:
        rows = read_records(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error}); restore the file that ingest wrote") from None
    reviews = {}
    for number, row in enumerate(rows, start=2):
        try:
            path, reviews[path] = review_of_row(row)
        except ValueError:
            raise DataError(
                f"{table}: line {number} is no review; restore the file that ingest wrote"
            ) from None
    return reviews


def write_data_reviews(root: Path, reviews: Mapping[str, Review]) -> None:
    """Write ``reviews.csv``, atomically; without reviews it is removed."""
    table = root / REVIEWS_FILE
    if not reviews:
        table.unlink(missing_ok=True)
        return
    write_rows(table, _lines(reviews))


def are_written(root: Path, reviews: Mapping[str, Review]) -> bool:
    """Whether ``reviews.csv`` is, byte for byte, what `write_data_reviews` would write now."""
    expected = "".join(map(line_of, _lines(reviews))).encode() if reviews else None
    table = root / REVIEWS_FILE
    return (table.read_bytes() if table.is_file() else None) == expected


def _lines(reviews: Mapping[str, Review]) -> list[Sequence[str]]:
    return [_CSV_COLUMNS, *(list(row_of_review(*item).values()) for item in reviews.items())]


def row_of_review(path: str, review: Review) -> dict[str, str]:
    """A line of ``reviews.csv``, by column."""
    values = (path, review.image_sha256, review.verdict, review.who, review.when.isoformat())
    return dict(zip(_CSV_COLUMNS, values, strict=True))


def review_of_row(row: Mapping[str, str]) -> tuple[str, Review]:
    """Inverse of `row_of_review`.

    Raises:
        ValueError: the columns are others, or a value is wrong.
    """
    if set(row) != set(_CSV_COLUMNS):
        raise ValueError(f"the columns are not {', '.join(_CSV_COLUMNS)}")
    values = {name: row[name] for name in _CSV_COLUMNS[2:]}
    return row["path"], Review.model_validate({"image_sha256": row["sha256"], **values})


def reviews_of(images: Sequence[tuple[str, str]], reviews: pd.DataFrame) -> dict[str, Review]:
    """The reviews of images.

    Args:
        images: (path, sha256) of each.
        reviews: what `read_reviews` returned.

    Returns:
        By path, in ascending order; images without a review are left out.
    """
    rows: list[dict[Any, Any]] = reviews.drop(columns="model_version").to_dict("records")
    known = {row["image_sha256"]: Review.model_validate(row) for row in rows}
    return {path: known[digest] for path, digest in sorted(images) if digest in known}


def apply_reviews(table: pd.DataFrame, reviews: pd.DataFrame) -> pd.DataFrame:
    """A manifest whose ``verdict`` is what a review table says, and for images that it does not name stays.

    Args:
        table: a manifest.
        reviews: what `read_reviews` returned.
    """
    said = reviews.set_index("image_sha256")["verdict"]
    verdict = table["sha256"].map(said).astype("string").fillna(table["verdict"])
    changed = table.assign(verdict=verdict.astype("string"))
    changed.attrs = dict(table.attrs)
    return changed


def contradicted(table: pd.DataFrame) -> NDArray[np.bool_]:
    """(N,) bool: rows of a manifest whose label a person contradicts."""
    label = table["verdict"].map({GOOD: 0, BAD: 1})
    return (label.notna() & (label != table["label"])).to_numpy(dtype=bool)
