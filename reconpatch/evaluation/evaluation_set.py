"""Which test images a comparison rests on: one digest of their bytes, labels, groups and masks."""

from collections.abc import Iterable

import pandas as pd

from reconpatch.storage.atomic_files import sha256_json

_WHAT_COUNTS = ("path", "sha256", "label", "group", "mask_sha256")


def evaluation_set_digest(table: pd.DataFrame, paths: Iterable[str]) -> str:
    """Hex SHA-256 of an evaluation set.

    Args:
        table: the manifest.
        paths: the test images that were scored, in any order.
    """
    rows = table.loc[table["path"].isin(list(paths)), list(_WHAT_COUNTS)].sort_values("path")
    columns = {
        name: [None if pd.isna(value) else value for value in rows[name].astype(object)]
        for name in _WHAT_COUNTS
    }
    return sha256_json(columns)
