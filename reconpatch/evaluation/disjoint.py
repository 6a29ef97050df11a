"""No test image may have been seen in the fit: by content, and by group."""

from pathlib import Path

import pandas as pd

from reconpatch.data.training import TrainingSet, group_keys
from reconpatch.errors import DataError

_NAMED = 3


def check_disjoint(test: pd.DataFrame, known: TrainingSet) -> None:
    """Refuse test images that the detector was fitted or calibrated on, or that belong to a group of these.

    Args:
        test: path, group and sha256 of each test image.
        known: the detector's training images.

    Raises:
        DataError: there are such images; the message names the first.
    """
    paths = [Path(path) for path in test["path"]]
    digests = test["sha256"].tolist()
    keys = group_keys(paths, test["group"].tolist(), digests)
    contents = set(known.fit + known.holdout)
    groups = {group for _, group in known.fit_pairs + known.holdout_pairs}
    for name, members, values in (("content", contents, digests), ("group", groups, keys)):
        seen = [str(path) for path, value in zip(paths, values, strict=True) if value in members]
        if seen:
            shown = ", ".join(seen[:_NAMED]) + (", ..." if len(seen) > _NAMED else "")
            raise DataError(
                f"{len(seen)} test image(s) are of the same {name} as training images of this detector "
                f"({shown}): an evaluation on them would flatter it; take them out of one of the two"
            )
