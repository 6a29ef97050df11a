"""Groups: images of one part or one region are not independent, so they are never torn apart."""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.batch_folders import without_lot
from reconpatch.data.file_listing import IMAGE_ENDINGS, Stray
from reconpatch.errors import DataError, SettingsError
from reconpatch.settings.group_pattern import search_group
from reconpatch.text.csv_files import read_records

GROUPS_FILE = "groups.csv"
_MOST_HELD_OUT = 0.5


@dataclass(frozen=True)
class Grouping:
    """The groups of a category's images.

    Attributes:
        groups: one a path, in order; an image that file or pattern do not name is its own group. A name
            like a file's is without its ending (`p7` for `p7.png`), since a group that reads as the end of a
            path stands for the image itself.
        strays: what does not fit: images without a line and lines without an image, or images that the
            pattern does not match.
        faults: why ``groups.csv``, or lines of it, cannot be used.
    """

    groups: list[str]
    strays: list[Stray]
    faults: list[str]


def assign_groups(
    paths: Sequence[str], root: Path, pattern: str | None = None
) -> tuple[list[str], list[Stray]]:
    """The groups and the strays that `find_groups` finds, where there is no fault.

    Raises:
        DataError: ``groups.csv`` cannot be used.
        SettingsError: the pattern cannot be used, or takes too long.
    """
    found = find_groups(paths, root, pattern)
    if found.faults:
        raise DataError(f"{root / GROUPS_FILE}: {found.faults[0]}")
    return found.groups, found.strays


def find_groups(paths: Sequence[str], root: Path, pattern: str | None = None) -> Grouping:
    """The group of each image: from ``groups.csv`` in the root, else from ``pattern``, else the image itself.

    Args:
        paths: posix paths relative to ``root``.
        root: the category's folder.
        pattern: regular expression with one capture, searched in each path; what it captures is the group.
            Not used where there is a ``groups.csv`` (columns ``path``, ``group``), which is part of the data.

    Raises:
        SettingsError: the pattern cannot be used, or takes too long.
    """
    table = root / GROUPS_FILE
    faults: list[str] = []
    if table.is_file():
        named, faults = _read_table(table)
        unknown = sorted(set(named) - set(paths))
        strays = [Stray(path, f"is named in {GROUPS_FILE}, but is no image here") for path in unknown]
        missing = f"has no line in {GROUPS_FILE} and is a group of its own; add one"
    elif pattern is not None:
        captured = ((path, search_group(pattern, without_lot(path))) for path in paths)
        named = {path: group for path, group in captured if group is not None}
        strays, missing = [], "does not match data.group_pattern and is a group of its own; mend the pattern"
    else:
        return Grouping(list(paths), [], [])
    if named or not faults:  # of a table that cannot be read at all, every image would lack its line
        strays += [Stray(path, missing) for path in paths if path not in named]
    members = Counter(named.values())
    named = {
        path: group if group == path and members[group] == 1 else _unlike_file(group)
        for path, group in named.items()
    }
    return Grouping([named.get(path, path) for path in paths], strays, faults)


def _unlike_file(group: str) -> str:
    ending = PurePosixPath(group).suffix
    return group.removesuffix(ending) if ending.lower() in IMAGE_ENDINGS else group


def group_of_image(name: str, digest: str, pattern: str | None) -> str:
    """The group of an image that belongs to no data set.

    Args:
        name: its name or path, as it was given.
        digest: of its bytes; the group where the pattern does not match or there is none.
        pattern: as for `assign_groups`.

    Raises:
        SettingsError: the pattern cannot be used, or takes too long.
    """
    group = (search_group(pattern, without_lot(name)) if pattern is not None else None) or digest
    return group if group == name else _unlike_file(group)


def hold_out_groups(groups: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups to hold out, at least ``share`` of the images where that is possible.

    The groups are gone through in an order drawn from ``seed``; one is taken when it does not overshoot the
    number of images needed. If that leaves images wanting, the smallest remaining group that makes up for
    them is added, unless more than half of all images would then be held out: rather fewer are held out
    than a detector is starved. With fewer than two groups, or ``share`` 0, nothing is held out.

    Args:
        groups: (N,) the group of each image, in any order (the choice does not depend on it).
        share: in [0, 0.5], share of the images to hold out.
        seed: of the order of the groups.

    Returns:
        (N,) bool, True where the image is held out; never all True.

    Raises:
        SettingsError: ``share`` is out of range.
    """
    if not 0 <= share <= _MOST_HELD_OUT:
        raise SettingsError(f"calibrate.holdout: {share} is not between 0 and {_MOST_HELD_OUT}")
    names, member, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    held = np.zeros(len(names), dtype=bool)
    # Less a hair, since 0.1 * 30 is 3.0000000000000004.
    needed = math.ceil(share * len(groups) - 1e-9)
    if len(names) < 2 or needed == 0:
        return held[member]
    order = np.random.default_rng(seed).permutation(len(names))
    total = 0
    for group in order:
        if total + sizes[group] <= needed:
            held[group] = True
            total += sizes[group]
    if total < needed:  # every group that remains would make up for it, since each was too large
        remaining = order[~held[order]]
        smallest = remaining[np.argmin(sizes[remaining])]
        held[smallest] = total + sizes[smallest] <= _MOST_HELD_OUT * len(groups)
    return held[member]


def join_groups(groups: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Groups that share an image's content become one.

    Args:
        groups: (N,) the group of each image.
        digests: (N,) content hash of each.

    Returns:
        (N,) names; where nothing is shared they are ``groups``, else the least name of those joined.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    seen: dict[str, str] = {}
    for group, digest in zip(groups, digests, strict=True):
        first, second = root(group), root(seen.setdefault(digest, group))
        parent[max(first, second)] = min(first, second)
    return [root(group) for group in groups]


def _read_table(table: Path) -> tuple[dict[str, str], list[str]]:
    """Path -> group of the sound lines, and what is wrong with the others."""
    try:
        rows = read_records(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        return {}, [f"cannot be read ({error}); save it as CSV in UTF-8"]
    if not rows or not {"path", "group"} <= set(rows[0]):
        return {}, ["needs a header and columns `path,group`, separated by commas, and a line or more"]
    named: dict[str, str] = {}
    faults = []
    for number, row in enumerate(rows, start=2):
        path, group = row["path"], row["group"]
        if not path or not group or None in row:
            faults.append(f"line {number} needs one path and one group")
        elif named.setdefault(path, group) != group:
            faults.append(f"line {number} puts {path} into a second group; keep one")
    return named, faults
