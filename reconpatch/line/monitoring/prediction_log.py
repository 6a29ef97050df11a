"""The prediction log: what detectors said of images, in parquet, a folder a category and in it one a day.

    <log>/<category>/2026-11-25/101500-123456-<random>.parquet

Every write is a file of its own, written beside and then renamed: several processes may log at once, none
waits for another, and one that is killed leaves whole files only.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import atomic_file

_LOG = logging.getLogger(__name__)
SCHEMA = pa.schema(
    [
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("is_anomalous", pa.bool_()),
        pa.field("band", pa.string()),
        pa.field("false_reject_probability", pa.float64()),
        pa.field("brightness", pa.float64(), nullable=False),
        pa.field("contrast", pa.float64(), nullable=False),
        pa.field("sharpness", pa.float64(), nullable=False),
        pa.field("embedding", pa.list_(pa.float16()), nullable=False),
    ]
)


@dataclass(frozen=True)
class LoggedPrediction:
    """One row of the log.

    Attributes:
        time: when it was made, with its zone.
        category: what the detector was served as.
        model_version: such as ``reconpatch-demo-brick/3``, or ``sha256:`` of a folder's config.
        image: name for people.
        group: images that share it are one observation.
        score: image score.
        is_anomalous: verdict; None: the detector is not calibrated (as the next two).
        band: ``accept``, ``review`` or ``reject``.
        false_reject_probability: of the score.
        brightness: as `ImageStatistics`, as are the next two.
        contrast: standard deviation of the grey values.
        sharpness: variance of their Laplacian.
        embedding: (E,) float16, as `Prediction.embedding`.
    """

    time: datetime
    category: str
    model_version: str
    image: str
    group: str
    score: float
    is_anomalous: bool | None
    band: str | None
    false_reject_probability: float | None
    brightness: float
    contrast: float
    sharpness: float
    embedding: NDArray[np.float16]


def write_predictions(log: Path, rows: Sequence[LoggedPrediction], token: str | None = None) -> None:
    """Append rows, one file for each of their categories and days (UTC).

    Args:
        log: the log's folder.
        rows: with their times.
        token: ends the names of the files: the same rows under the same token replace themselves. None: a
            random one.

    Raises:
        DataError: the log cannot be written; the message names the file.
    """
    for part in split_rows(rows):
        write_part(log, part, token)


def split_rows(rows: Iterable[LoggedPrediction]) -> list[list[LoggedPrediction]]:
    """The rows by the file that they belong in: one for each of their categories and days (UTC)."""
    parts: dict[tuple[str, date], list[LoggedPrediction]] = {}
    for row in rows:
        parts.setdefault((row.category, row.time.astimezone(UTC).date()), []).append(row)
    return list(parts.values())


def write_part(log: Path, part: Sequence[LoggedPrediction], token: str | None = None) -> None:
    """Append one of `split_rows`; arguments and errors are those of `write_predictions`."""
    first = part[0].time.astimezone(UTC)
    name = f"{first:%H%M%S-%f}-{token or secrets.token_hex(4)}.parquet"
    path = log / part[0].category / first.date().isoformat() / name
    table = pa.Table.from_pylist([asdict(row) for row in part], SCHEMA)
    try:
        with atomic_file(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror or error}); look at space and permissions"
        ) from None


def read_predictions(
    log: Path, *, model_version: str, since: datetime | None = None, most: int | None = None
) -> pd.DataFrame:
    """Rows of one version of a detector, oldest first, under whatever category it was served as.

    Args:
        log: the log's folder; one that does not exist holds no row.
        model_version: of the detector.
        since: rows of this time or before are passed over.
        most: only so many of the latest rows; earlier days are not opened once there are enough.

    Returns:
        The columns of `SCHEMA`. What is no part of a log is left out, with a warning.

    Raises:
        DataError: a file cannot be read.
    """
    found: list[pa.Table] = []
    for day, folders in _days(log):
        if since is not None and day < since.astimezone(UTC).date():
            break
        read = (_read(file, model_version, since) for file in _files(folders))
        found += [table for table in read if table is not None]
        if most is not None and sum(len(table) for table in found) >= most:
            break
    table = pa.concat_tables(found) if found else SCHEMA.empty_table()
    rows = table.sort_by([("time", "ascending"), ("image", "ascending")])
    if most is not None:
        rows = rows.slice(max(0, len(rows) - most))
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def old_days(log: Path, before: date, *, versions: Collection[str], most: int) -> list[Path]:
    """Folders of days that can go: they hold none of the latest predictions of these versions.

    Args:
        log: the log's folder; one that does not exist holds no day.
        before: later days stay, and this one.
        versions: of detectors.
        most: so many latest rows of each of them stay, as `read_predictions` would read them.

    A day with a file that is no part of a log stays, with a warning.

    Raises:
        DataError: a file cannot be read.
    """
    if all(day >= before for day, _ in _days(log)):
        return []  # without opening a file
    seen: Counter[str] = Counter()
    old: list[Path] = []
    for day, folders in _days(log):
        counts = {folder: _count_versions(folder) for folder in folders}
        wanted = {version for version in versions if seen[version] < most}
        if day < before:
            old += [
                folder for folder, count in counts.items() if count is not None and not wanted & count.keys()
            ]
        for count in counts.values():
            seen.update(count or {})
    return sorted(old)


def _days(log: Path) -> Iterator[tuple[date, list[Path]]]:
    """Days, the latest first, with their folders."""
    days: dict[date, list[Path]] = {}
    for folder in sorted(log.glob("*/????-??-??/")):
        try:
            day = date.fromisoformat(folder.name)
        except ValueError:
            _LOG.warning("%s: is named like no day and is left out; rename or remove it", folder)
            continue
        days.setdefault(day, []).append(folder)
    for day in sorted(days, reverse=True):
        yield day, days[day]


def _files(folders: Iterable[Path]) -> list[Path]:
    """The files of folders of a day, but for those that are being written."""
    return sorted(file for folder in folders for file in folder.glob("[!.]*.parquet"))


def _count_versions(folder: Path) -> Counter[str] | None:
    """Rows by version; None where a file does not tell."""
    counts: Counter[str] = Counter()
    for file in _files([folder]):
        table = _open(file, ["model_version"])
        if table is None:
            return None
        for one in table["model_version"].value_counts().to_pylist():
            counts[one["values"]] += one["counts"]
    return counts


def _read(path: Path, model_version: str, since: datetime | None) -> pa.Table | None:
    table = _open(path)
    if table is None:
        return None
    chosen = pc.equal(table["model_version"], model_version)
    if since is not None:
        chosen = pc.and_(chosen, pc.greater(table["time"], pa.scalar(since, pa.timestamp("us", "UTC"))))
    return table.filter(chosen)


def _open(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    try:
        return pq.read_table(path, schema=SCHEMA, partitioning=None, columns=columns)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the format
            raise DataError(f"{path}: cannot be read ({error}); look at its disk and permissions") from None
        reason = str(error).splitlines()[0]
        _LOG.warning("%s: is no part of a prediction log (%s) and is left out; remove the file", path, reason)
        return None
