"""Held-out nominal images as the detector that ships sees them: what new images are compared with later.

Only images that neither trained f nor were coreset candidates: of those a detector knows, it thinks too well.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reconpatch.errors import ModelError

LOOKS = ("brightness", "contrast", "sharpness")
SCHEMA = pa.schema(
    [
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64()) for name in LOOKS),
        pa.field("embedding", pa.list_(pa.float16()), nullable=False),
    ]
)
_MOST = 2_000  # more tell no smaller drift apart that a line would care for, and would be carried everywhere

Looks = tuple[float, float, float]


def held_out_table(
    digests: Sequence[str],
    groups: Sequence[str],
    scores: NDArray[np.floating],
    embeddings: NDArray[np.float16],
    looks: Mapping[str, Looks],
) -> pd.DataFrame:
    """One row an image, at most 2,000 of them, those of the lowest digests.

    Args:
        digests: (m,) hex SHA-256 of each image's bytes.
        groups: (m,) the group of each.
        scores: (m,) image scores.
        embeddings: (m, E) as `summarise_patches`.
        looks: brightness, contrast and sharpness by digest; null where an image is not among them.

    Returns:
        The columns of `SCHEMA`.
    """
    unknown = (np.nan, np.nan, np.nan)
    rows = [
        (digest, group, float(score), *looks.get(digest, unknown), embedding)
        for digest, group, score, embedding in zip(digests, groups, scores, embeddings, strict=True)
    ]
    table = pd.DataFrame(rows, columns=SCHEMA.names)
    return table.sort_values(["image_sha256", "group"]).head(_MOST).reset_index(drop=True)


def looks_of(table: pd.DataFrame | None) -> dict[str, Looks]:
    """Brightness, contrast and sharpness by digest, of a table of held-out images or a manifest's rows."""
    if table is None:
        return {}
    digest = "image_sha256" if "image_sha256" in table else "sha256"
    known = table.dropna(subset=[digest, *LOOKS])
    values = known[list(LOOKS)].astype(float).itertuples(index=False, name=None)
    return {str(name): (a, b, c) for name, (a, b, c) in zip(known[digest], values, strict=True)}


def with_looks(table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose brightness, contrast and sharpness are all known."""
    return table.dropna(subset=list(LOOKS))


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
        table: pd.DataFrame = pq.read_table(path, schema=SCHEMA, partitioning=None).to_pandas()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{path}: does not hold the held-out images ({reason}); fit the detector again"
        ) from None
    return table
