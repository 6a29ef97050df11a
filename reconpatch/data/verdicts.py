"""What people said about a category's images, as part of the data: ``reviews.csv`` beside ``groups.csv``.

The review table is of the line, and grows while models are made. Ingest copies from it what is said of
images of the data set, so each version of the data holds the verdicts that its models and figures honour.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.text.csv_files import line_of, read_records, write_rows

VERDICTS_FILE = "reviews.csv"
GOOD, BAD = "good", "bad"
_COLUMNS = ("path", "sha256", "verdict", "who", "when")


@dataclass(frozen=True)
class Verdict:
    """A person's verdict on an image of a category.

    Attributes:
        path: posix, relative to the category root, when it was written down; the hash is what counts.
        sha256: of the image's bytes.
        verdict: ``good`` or ``bad`` (the part).
        who: the person.
        when: time with its zone, ISO 8601.
    """

    path: str
    sha256: str
    verdict: str
    who: str
    when: str


def read_verdicts(root: Path) -> list[Verdict]:
    """The verdicts of the category at ``root``; none where it has no ``reviews.csv``.

    Raises:
        DataError: the file cannot be read, or a line of it is no verdict.
    """
    table = root / VERDICTS_FILE
    if not table.is_file():
        return []
    try:
        rows = read_records(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error}); restore the file that ingest wrote") from None
    for number, row in enumerate(rows, start=2):
        if set(row) != set(_COLUMNS) or None in row.values() or row["verdict"] not in (GOOD, BAD):
            raise DataError(f"{table}: line {number} is no verdict; restore the file that ingest wrote")
    return [Verdict(**row) for row in rows]


def write_verdicts(root: Path, verdicts: Sequence[Verdict]) -> None:
    """Write ``reviews.csv``, atomically; no verdicts remove it."""
    table = root / VERDICTS_FILE
    if not verdicts:
        table.unlink(missing_ok=True)
        return
    write_rows(table, _rows(verdicts))


def are_written(root: Path, verdicts: Sequence[Verdict]) -> bool:
    """Whether ``reviews.csv`` is, byte for byte, what `write_verdicts` would write now."""
    expected = "".join(map(line_of, _rows(verdicts))).encode() if verdicts else None
    table = root / VERDICTS_FILE
    return (table.read_bytes() if table.is_file() else None) == expected


def _rows(verdicts: Sequence[Verdict]) -> list[Sequence[str]]:
    return [_COLUMNS, *([getattr(one, name) for name in _COLUMNS] for one in verdicts)]


def verdicts_on(images: Sequence[tuple[str, str]], reviews: pd.DataFrame) -> list[Verdict]:
    """What a review table says of images.

    Args:
        images: (path, sha256) of each.
        reviews: what `read_reviews` returned.

    Returns:
        Sorted by path.
    """
    rows: list[dict[Any, Any]] = reviews.astype({"when": object}).to_dict("records")
    said = {row["image_sha256"]: row for row in rows}
    return [
        Verdict(path, digest, row["verdict"], row["who"], row["when"].isoformat())
        for path, digest in sorted(images)
        if (row := said.get(digest)) is not None
    ]


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
