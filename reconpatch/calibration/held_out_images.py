"""Held-out nominal images as the detector that ships sees them: what new images are compared with later.

Only images that neither trained f nor were coreset candidates: training images score too low.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import open_regular

IMAGE_STATISTICS = ("brightness", "contrast", "sharpness")
SCHEMA = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in IMAGE_STATISTICS),
        pa.field("embedding", pa.list_(pa.float16()), nullable=False),
    ]
)
_MOST = 2_000  # more tell no smaller drift apart that a line would care for, and would be carried everywhere
_MOST_BYTES = 256 << 20  # 2,000 embeddings of 32,000 numbers
_TEXTS = ["image_sha256", "group"]
_MOST_TEXT = 10_000

StatisticValues = tuple[float, float, float]  # of `IMAGE_STATISTICS`


def held_out_table(
    digests: Sequence[str],
    groups: Sequence[str],
    scores: NDArray[np.floating],
    embeddings: NDArray[np.float16],
    statistics: Mapping[str, StatisticValues],
) -> pd.DataFrame:
    """One row an image, at most 2,000 of them, those of the lowest digests.

    Args:
        digests: (m,) hex SHA-256 of each image's bytes.
        groups: (m,) the group of each.
        scores: (m,) image scores.
        embeddings: (m, E) as `summarise_patches`.
        statistics: brightness, contrast and sharpness by digest; null where an image is not among them.

    Returns:
        The columns of `SCHEMA`.
    """
    unknown = (np.nan, np.nan, np.nan)
    rows = [
        (digest, group, float(score), *statistics.get(digest, unknown), embedding)
        for digest, group, score, embedding in zip(digests, groups, scores, embeddings, strict=True)
    ]
    table = pd.DataFrame(rows, columns=SCHEMA.names)
    return table.sort_values(["image_sha256", "group"]).head(_MOST).reset_index(drop=True)


def image_statistics_of(table: pd.DataFrame | None) -> dict[str, StatisticValues]:
    """Brightness, contrast and sharpness by digest, of a table of held-out images or a manifest's rows."""
    if table is None:
        return {}
    digest = "image_sha256" if "image_sha256" in table else "sha256"
    known = table.dropna(subset=[digest, *IMAGE_STATISTICS])
    values = known[list(IMAGE_STATISTICS)].astype(float).itertuples(index=False, name=None)
    return {str(name): (a, b, c) for name, (a, b, c) in zip(known[digest], values, strict=True)}


def with_image_statistics(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose brightness, contrast and sharpness are all known."""
    return table.dropna(subset=list(IMAGE_STATISTICS))


def write_held_out(path: Path, table: pd.DataFrame) -> None:
    """Write the table; equal tables are equal bytes."""
    columns = [pa.array(table[field.name].tolist(), field.type, from_pandas=True) for field in SCHEMA]
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), path, compression="zstd")


def read_held_out(path: Path) -> pd.DataFrame:
    """Read the table.

    Raises:
        ModelError: it is no such table.
    """
    try:
        with open_regular(path) as stream:
            _check(pq.ParquetFile(stream))
            # As a dictionary a text that all rows share stays one text.
            table = pq.ParquetFile(stream, read_dictionary=_TEXTS).read(columns=SCHEMA.names)
        table.validate(full=True)
        table = _check_values(table)
        # Notes for pandas that a stranger wrote are not followed.
        frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(
            f"{path}: does not hold the held-out images ({reason}); fit the detector again"
        ) from None
    return frame


def _check(file: pq.ParquetFile) -> None:
    """Compare what a table claims, before a value of it is decoded."""
    meta, schema = file.metadata, file.schema_arrow
    for field in SCHEMA:
        found = schema.field(field.name).type if schema.names.count(field.name) == 1 else None
        if found != field.type:
            raise ValueError(f"it has no column {field.name} of {field.type}")
    chunks = [
        meta.row_group(row).column(column)
        for row in range(meta.num_row_groups)
        for column in range(meta.num_columns)
    ]
    claimed = sum(max(chunk.total_uncompressed_size, 4 * chunk.num_values) for chunk in chunks)
    if meta.num_rows > _MOST or not 0 <= claimed <= _MOST_BYTES:
        raise ValueError(f"it claims {meta.num_rows} images and {claimed} bytes")


def _check_values(table: pa.Table) -> pa.Table:
    """Compare what was decoded; the table with the types of `SCHEMA`."""
    for name in _TEXTS:
        for chunk in table[name].chunks:
            if (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) > _MOST_TEXT:
                raise ValueError(f"{name} holds a text of more than {_MOST_TEXT} bytes")
    if missing := [field.name for field in SCHEMA if not field.nullable and table[field.name].null_count]:
        raise ValueError(f"{missing[0]} is null somewhere")
    embeddings = table["embedding"].combine_chunks()
    if len(pc.unique(pc.list_value_length(embeddings))) > 1 or pc.list_flatten(embeddings).null_count:
        raise ValueError("the embeddings are not of one length")
    return table.cast(SCHEMA)
