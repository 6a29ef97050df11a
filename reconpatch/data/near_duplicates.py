"""Images that look alike to the last detail, by their perceptual hashes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.data.image_statistics import hash_bits

_AT_ONCE = 256  # queries: bounds the memory where everything looks like everything


def find_pairs(
    queries: Sequence[str], references: Sequence[str], bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """All pairs whose hashes differ in at most ``bits`` bits.

    Args:
        queries: (Q,) perceptual hashes, hex.
        references: (R,) likewise.
        bits: 0 to 256.

    Returns:
        Indices into ``queries``, into ``references`` and the bits that differ, each (n,), by query.
    """
    if not len(queries) or not len(references):
        return (np.empty(0, np.int64),) * 3
    known, coded = (hash_bits(hashes).view(np.uint64) for hashes in (references, queries))
    parts = []
    for start in range(0, len(coded), _AT_ONCE):
        part = coded[start : start + _AT_ONCE]
        apart = np.zeros((len(part), len(known)), np.uint16)
        for column in range(known.shape[1]):
            apart += np.bitwise_count(part[:, column, None] ^ known[:, column])
        asked_of, found_at = np.nonzero(apart <= bits)
        parts.append((asked_of + start, found_at, apart[asked_of, found_at].astype(np.int64)))
    of_queries, of_references, bits_apart = (np.concatenate(part) for part in zip(*parts, strict=True))
    return of_queries, of_references, bits_apart


def near_copy_of(rows: pd.DataFrame, bits: int) -> pd.DataFrame:
    """The image that each image is a near copy of, each pair told once.

    Images of one group are known to be alike and make no pair. Of a pair in two splits the test image is the
    copy, of one in the same split the later.

    Args:
        rows: rows of a manifest, with hashes.
        bits: the most that hashes of copies differ in.

    Returns:
        By index of ``rows``, for those that are copies: ``near`` (path of the image most alike) and ``bits``.
    """
    hashes = rows["perceptual_hash"].tolist()
    copy, original, apart = find_pairs(hashes, hashes, bits)
    group, _ = pd.factorize(rows["group"])
    test = (rows["split"] == "test").to_numpy(dtype=bool)
    told = np.where(test[copy] == test[original], original < copy, test[copy])
    kept = told & (group[copy] != group[original])
    pairs = pd.DataFrame({"copy": copy[kept], "original": original[kept], "bits": apart[kept]})
    nearest = pairs.sort_values(["copy", "bits", "original"]).drop_duplicates("copy")
    paths = rows["path"].to_numpy(dtype=object)[nearest["original"]]
    return pd.DataFrame(
        {"near": paths, "bits": nearest["bits"].to_numpy()}, index=rows.index[nearest["copy"]]
    )
