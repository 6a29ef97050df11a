"""What a batch has scored: parts that are each whole and only ever added, and the table made of them.

    <output>/parts/<version>/000001.parquet    rows of some images, with all that the prediction log needs
    <output>/predictions.parquet, .csv         all rows of one version, made anew of its parts

A part is written beside and then renamed, so a kill leaves whole ones only.
"""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reconpatch.errors import DataError, SettingsError
from reconpatch.line.monitoring.prediction_log import SCHEMA, LoggedPrediction, write_predictions
from reconpatch.storage.atomic_files import atomic_file, sha256_file, write_json
from reconpatch.text.csv_files import write_frame

TABLE = (
    "path",
    "score",
    "is_anomalous",
    "band",
    "false_reject_probability",
    "problem",
    "heat_map",
    "model_version",
    "time",
    "sha256",
)
_OWN = (
    pa.field("path", pa.string(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),
    pa.field("bytes", pa.int64(), nullable=False),
    pa.field("modified_ns", pa.int64(), nullable=False),
    pa.field("heat_map", pa.string()),
)
_PART = pa.schema([*SCHEMA, *_OWN])
_ALL_BUT_EMBEDDING = [name for name in _PART.names if name != "embedding"]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoredImage:
    """One image of a folder, scored.

    Attributes:
        logged: its row of the prediction log.
        path: posix, relative to the folder.
        sha256: of the file's bytes.
        bytes: size of the file, which with its time tells whether it is still the same.
        modified_ns: when the file was last written.
        heat_map: posix, relative to the output folder; None: none was asked for.
    """

    logged: LoggedPrediction
    path: str
    sha256: str
    bytes: int
    modified_ns: int
    heat_map: str | None


def parts_folder(output: Path, version: str, category: str | None) -> Path:
    """Where the parts of one version lie, of a unified model those of one of its categories."""
    name = version.replace("/", "-").replace(":", "-")
    return output / "parts" / (name if category is None else f"{name}+{category}")


def check_owner(output: Path, folder: Path) -> None:
    """Note whose output folder this is, or compare.

    Raises:
        SettingsError: it belongs to another folder of images, whose rows would mix with these.
    """
    note, name = output / "folder.json", str(folder.resolve())
    if note.is_file():
        try:
            other = json.loads(note.read_text(encoding="utf-8"))["folder"]
        except (ValueError, KeyError, TypeError):
            raise SettingsError(
                f"{note}: does not say whose output folder this is; name another folder, or remove the file "
                f"where {name} was scored here"
            ) from None
        if other != name:
            raise SettingsError(f"--output {output}: holds what was said of {other}; name another folder")
    else:
        write_json(note, {"folder": name})


def list_parts(folder: Path) -> list[Path]:
    """The parts in the order in which they were written."""
    return sorted(part for part in folder.glob("[0-9]*.parquet") if part.stem.isdecimal())


def append_part(folder: Path, rows: Sequence[ScoredImage]) -> Path:
    """Write rows as the next part."""
    parts = list_parts(folder)
    number = int(parts[-1].stem) + 1 if parts else 1
    path = folder / f"{number:06}.parquet"
    values = [{**asdict(row.logged), **{one.name: getattr(row, one.name) for one in _OWN}} for row in rows]
    with atomic_file(path) as temporary:
        pq.write_table(pa.Table.from_pylist(values, _PART), temporary, compression="zstd")
    return path


def log_part(part: Path, log: Path) -> None:
    """Write a part's rows to the prediction log; again they replace themselves, so none is there twice.

    Raises:
        DataError: the part cannot be read, or the log cannot be written.
    """
    table = _read(part, SCHEMA.names)
    rows = [
        LoggedPrediction(**{**row, "embedding": np.asarray(row["embedding"], np.float16)})
        for row in ([] if table is None else table.to_pylist())
    ]
    write_predictions(log, rows, token=sha256_file(part)[:8])


def read_rows(parts: Iterable[Path], columns: Sequence[str]) -> pd.DataFrame:
    """Columns of all parts, the last row of each path, sorted by path.

    A file that is no part is left out with a warning, so the images that it held have no row and are scored
    again.

    Raises:
        DataError: a part cannot be read.
    """
    # Every column that a table needs, so that a part is whole for all who ask or for none.
    read = [table for part in parts if (table := _read(part, _ALL_BUT_EMBEDDING)) is not None]
    table = pa.concat_tables(read) if read else _PART.empty_table()
    frame: pd.DataFrame = table.select(list(columns)).to_pandas()
    return frame.drop_duplicates("path", keep="last").sort_values("path", ignore_index=True)


def write_table(output: Path, parts: Sequence[Path], problems: Mapping[str, str]) -> pd.DataFrame:
    """Write predictions.parquet and predictions.csv, a row an image; what has a problem has no score.

    Returns:
        The table, columns `TABLE`, sorted by path.

    Raises:
        DataError: a part cannot be read.
    """
    scored = read_rows(parts, [name for name in TABLE if name != "problem"])
    # An image that was scored and cannot be read any more is told once, by its problem.
    scored = scored[~scored["path"].isin(list(problems))].assign(problem=None)
    failed = pd.DataFrame({"path": list(problems), "problem": list(problems.values())}, dtype=object)
    table = (
        (pd.concat([scored, failed]) if len(scored) and len(failed) else scored if len(scored) else failed)
        .reindex(columns=list(TABLE))
        .astype(
            {
                "score": "float64",
                "is_anomalous": "boolean",
                "false_reject_probability": "float64",
                **dict.fromkeys(("path", "band", "problem", "heat_map", "model_version", "sha256"), "string"),
            }
        )
        .sort_values("path", ignore_index=True)
    )
    with atomic_file(output / "predictions.parquet") as temporary:
        table.to_parquet(temporary, index=False)
    write_frame(output / "predictions.csv", table)
    return table


def _read(part: Path, columns: Sequence[str]) -> pa.Table | None:
    try:
        return pq.read_table(part, schema=_PART, columns=list(columns), partitioning=None)
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of the format
            raise DataError(f"{part}: cannot be read ({error}); look at its disk and permissions") from None
        reason = str(error).splitlines()[0]
        _LOG.warning(
            "%s: is no part of a batch (%s); its images are scored again, remove the file", part, reason
        )
        return None
