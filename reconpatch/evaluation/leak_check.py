"""No test image may have been seen in the fit: by content, and by group."""

from pathlib import Path

import pandas as pd

from reconpatch.data.training_images import TrainingSet, group_keys, key_in_category
from reconpatch.errors import DataError

_NAMED = 3


def check_disjoint(test: pd.DataFrame, known: TrainingSet) -> None:
    """Refuse test images that the detector was fitted or calibrated on, or that belong to a group of these.

    Args:
        test: path, group and sha256 of each test image; category too, where the detector knows several.
        known: the detector's training images.

    Raises:
        DataError: there are such images; the message names the first.
    """
    paths = [Path(path) for path in test["path"]]
    digests = test["sha256"].tolist()
    contents = set(known.fit + known.holdout)
    groups = {group for _, group in known.fit_pairs + known.holdout_pairs}
    by_content = [digest in contents for digest in digests]
    by_group = [not keys.isdisjoint(groups) for keys in _keys(test, paths, digests)]
    for name, found in (("content", by_content), ("group", by_group)):
        seen = [str(path) for path, is_known in zip(paths, found, strict=True) if is_known]
        if seen:
            shown = ", ".join(seen[:_NAMED]) + (", ..." if len(seen) > _NAMED else "")
            raise DataError(
                f"{len(seen)} test image(s) are of the same {name} as training images of this detector "
                f"({shown}): an evaluation on them would flatter it; take them out of one of the two"
            )


def _keys(test: pd.DataFrame, paths: list[Path], digests: list[str]) -> list[set[str]]:
    """Every key by which a detector, of one category or of several, may know each test image's group."""
    groups = test["group"].tolist()
    keys = group_keys(paths, groups, digests)
    if "category" not in test:
        return [{key} for key in keys]
    categories = test["category"].tolist()
    # A manifest of several categories puts the category before the group.
    bare = [group.removeprefix(f"{name}/") for group, name in zip(groups, categories, strict=True)]
    rows = zip(keys, group_keys(paths, bare, digests), categories, digests, strict=True)
    return [
        {key, *(key_in_category(name, digest, one) for one in (key, inner))}
        for key, inner, name, digest in rows
    ]
