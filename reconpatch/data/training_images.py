"""The nominal training images: those that a fit takes, and what a detector remembers of them."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import FailFast

from reconpatch.data.batch_folders import has_arrived
from reconpatch.data.groups import assign_groups, join_groups
from reconpatch.data.layouts import region_file, scan_category
from reconpatch.data.manifest import image_paths
from reconpatch.data.reviews import BAD, read_data_reviews
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import sha256_file, sha256_json
from reconpatch.storage.bounded_types import Count, Digest, Name

_LOG = logging.getLogger(__name__)
_JUDGED = "a person judged the part bad; move it out of the training images"


@dataclass(frozen=True)
class TrainingImages:
    """Nominal images and their groups, in the same order.

    Attributes:
        paths: where the images lie.
        groups: images of one group are not independent and are held out together.
        region: the mask of what counts of them; None: all does.
    """

    paths: tuple[Path, ...]
    groups: tuple[str, ...]
    region: Path | None = None


@dataclass(frozen=True)
class TrainingSet:
    """The nominal images that a detector knows, by hex SHA-256 of their bytes.

    Attributes:
        fit: those that trained f and were coreset candidates, ascending.
        holdout: those that calibrate it, ascending.
        updates: how many updates came after the fit.
        fit_groups: the group of each of ``fit``, as `group_keys` names it; empty: each is its own.
        holdout_groups: likewise of ``holdout``.
    """

    fit: Annotated[tuple[Digest, ...], FailFast()]
    holdout: Annotated[tuple[Digest, ...], FailFast()]
    updates: Count = 0
    fit_groups: Annotated[tuple[Name, ...], FailFast()] = ()
    holdout_groups: Annotated[tuple[Name, ...], FailFast()] = ()

    def __post_init__(self) -> None:
        """Refuse what a damaged file may hold.

        Raises:
            ValueError: there are groups, but not one for each image.
        """
        for images, groups in ((self.fit, self.fit_groups), (self.holdout, self.holdout_groups)):
            if groups and len(groups) != len(images):
                raise ValueError(f"has {len(images)} images and {len(groups)} groups")

    @classmethod
    def from_pairs(
        cls, fit: Sequence[tuple[str, str]], holdout: Sequence[tuple[str, str]], updates: int = 0
    ) -> "TrainingSet":
        """From (digest, group) pairs, ascending."""
        return cls(
            tuple(digest for digest, _ in fit),
            tuple(digest for digest, _ in holdout),
            updates,
            tuple(group for _, group in fit),
            tuple(group for _, group in holdout),
        )

    def __len__(self) -> int:
        return len(self.fit) + len(self.holdout)

    @property
    def fit_pairs(self) -> list[tuple[str, str]]:
        """(digest, group) of each image of the fit."""
        return list(zip(self.fit, self.fit_groups or self.fit, strict=True))

    @property
    def holdout_pairs(self) -> list[tuple[str, str]]:
        """(digest, group) of each held-out image."""
        return list(zip(self.holdout, self.holdout_groups or self.holdout, strict=True))

    @property
    def sha256(self) -> str:
        """Hex digest of the set, whichever of its images were held out and wherever they lie."""
        return sha256_json(sorted(self.fit + self.holdout))


def group_of_content(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Digest -> group of (digest, group) pairs; groups that share an image's content are one."""
    digests, groups = [digest for digest, _ in pairs], [group for _, group in pairs]
    return dict(zip(digests, join_groups(groups, digests), strict=True))


def union(sets: Mapping[str, TrainingSet]) -> TrainingSet:
    """The training images of all categories; groups of two categories are two, whatever their names."""
    fit, holdout = (
        sorted(
            (digest, key_in_category(name, digest, group)) for name, pairs in part for digest, group in pairs
        )
        for part in (
            [(name, one.fit_pairs) for name, one in sets.items()],
            [(name, one.holdout_pairs) for name, one in sets.items()],
        )
    )
    return TrainingSet.from_pairs(fit, holdout)


def key_in_category(category: str, digest: str, key: str) -> str:
    """What `union` makes of an image's group key."""
    return digest if key == digest else sha256_json([category, key])


def group_keys(paths: Sequence[Path], groups: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Names of groups that hold wherever the images lie, and give no path away.

    An image that is its own group, and so named by its path or by its content, is named by its content; other
    groups by a hash of their name.

    Args:
        paths: (N,) where the images lie.
        groups: (N,) their groups.
        digests: (N,) hex SHA-256 of their bytes.
    """
    keys = []
    for path, group, digest in zip(paths, groups, digests, strict=True):
        own = group == digest or path.as_posix() == group or path.as_posix().endswith(f"/{group}")
        keys.append(digest if own else sha256_json(group))
    return keys


def training_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a manifest that a fit takes: nominal training images, no arrival that a person judged bad."""
    rows = table[(table["split"] == "train") & (table["label"] == 0)]
    return rows[~_is_withdrawn(rows)]


def _is_withdrawn(rows: pd.DataFrame) -> pd.Series:
    if "verdict" not in rows:  # a table of one's own has none
        return pd.Series(False, index=rows.index)
    return rows["verdict"].eq(BAD).fillna(False) & rows["path"].map(has_arrived).astype(bool)


def training_images(
    images: str | Path | Sequence[str | Path] | pd.DataFrame, settings: DataSettings
) -> TrainingImages:
    """Resolve what `ReConPatch.fit` is given.

    An arrival that was judged bad since it joined is left out. Of an image that a person has put there, that
    is a contradiction, which a person ends.

    Args:
        images: a category folder (its training split is taken), a list of image paths (each its own
            group) and of such folders (a roi.png counts where it is that of all of them), or a manifest
            table (its rows with split ``train``, under ``table.attrs["root"]``).
        settings: layout and group pattern of a folder.

    Raises:
        DataError: the folder fits no layout, a manifest row is unreadable, an image that is no arrival was
            judged bad, no image is left, or something else than paths is given.
    """
    if isinstance(images, pd.DataFrame):
        return _from_manifest(images)
    if isinstance(images, (str, Path)):
        return _from_category(Path(images), settings)
    parts = [
        _from_category(path, settings) if path.is_dir() else TrainingImages((path,), (path.as_posix(),))
        for path in _paths(images)
    ]
    if not parts:
        raise DataError("the list of images is empty; give at least one nominal image")
    paths = tuple(path for part in parts for path in part.paths)
    groups = tuple(group for part in parts for group in part.groups)
    regions = {part.region for part in parts if len(part.paths)}
    if len(regions) > 1:
        named = ", ".join(sorted(str(region) for region in regions if region is not None))
        _LOG.warning("%s is not used: it does not hold for every image of the list", named)
    return TrainingImages(paths, groups, regions.pop() if len(regions) == 1 else None)


def _paths(images: object) -> Iterator[Path]:
    """Those of a list; what a detector is fitted on is known by its file's content, so it must be a file."""
    accepted = "give a category folder, a list of paths of image files, or a manifest table"
    if isinstance(images, (bytes, bytearray)) or not isinstance(images, Iterable):
        raise DataError(f"the images are of type {type(images).__name__}; {accepted}")
    for place, image in enumerate(images):
        if not isinstance(image, (str, os.PathLike)):
            raise DataError(f"image {place} of the list is of type {type(image).__name__}; {accepted}")
        yield Path(image)


def _from_category(root: Path, settings: DataSettings) -> TrainingImages:
    files = [file for file in scan_category(root, settings.layout) if file.split == "train"]
    bad = {one.image_sha256 for one in read_data_reviews(root).values() if one.verdict == BAD}
    # Only a category with such a review pays for the hashes.
    sound = [file.path for file in files if bad and not file.problem]
    judged = {path for path in sound if sha256_file(root / path) in bad}
    withdrawn = {path for path in judged if has_arrived(path)}
    _tell_withdrawn(root, len(withdrawn))
    files = [file for file in files if file.path not in withdrawn]
    _refuse(root, [(file.path, file.problem or (_JUDGED if file.path in judged else None)) for file in files])
    groups, _ = assign_groups([file.path for file in files], root, settings.group_pattern)
    return TrainingImages(tuple(root / file.path for file in files), tuple(groups), region_file(root))


def _from_manifest(table: pd.DataFrame) -> TrainingImages:
    if "root" not in table.attrs:
        raise DataError('manifest: table.attrs["root"] is missing; set it to the category\'s folder')
    if missing := [name for name in ("path", "split", "group", "problem") if name not in table]:
        raise DataError(f"manifest: has no column {', '.join(missing)}; build it with build_manifest")
    rows = table[table["split"] == "train"]
    withdrawn = _is_withdrawn(rows)
    _tell_withdrawn(Path(table.attrs["root"]), int(withdrawn.sum()))
    rows = rows[~withdrawn]
    problems = rows["problem"]
    if "verdict" in rows:  # a table of one's own has none
        problems = problems.mask(problems.isna() & rows["verdict"].eq(BAD).fillna(False), _JUDGED)
    _refuse(
        Path(table.attrs["root"]),
        [
            (path, None if pd.isna(problem) else str(problem))
            for path, problem in zip(rows["path"], problems, strict=True)
        ],
    )
    return TrainingImages(
        tuple(image_paths(rows)), tuple(rows["group"]), region_file(Path(table.attrs["root"]))
    )


def _tell_withdrawn(root: Path, count: int) -> None:
    if count:
        _LOG.info("%s: %d arrivals that a person judged bad are left out", root, count)


def _refuse(root: Path, problems: Sequence[tuple[str, str | None]]) -> None:
    if not problems:
        raise DataError(f"{root}: holds no training image; put nominal images under train/good")
    broken = [f"{path}: {problem}" for path, problem in problems if problem is not None]
    if broken:
        raise DataError(f"{root}: {len(broken)} training images cannot be used: " + "; ".join(broken))
