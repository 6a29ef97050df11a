"""The nominal training images: those that a fit takes, and what a detector remembers of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.data.groups import assign_groups
from reconpatch.data.layouts import scan_category
from reconpatch.data.manifest import image_paths
from reconpatch.errors import DataError
from reconpatch.files import sha256_json
from reconpatch.settings import DataSettings


@dataclass(frozen=True)
class TrainingImages:
    """Nominal images and their groups, in the same order.

    Attributes:
        paths: where the images lie.
        groups: images of one group are not independent and are held out together.
    """

    paths: tuple[Path, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class TrainingSet:
    """The nominal images that a detector knows, by hex SHA-256 of their bytes.

    Attributes:
        fit: those that trained f and were coreset candidates, ascending.
        holdout: those that calibrate it, ascending.
        updates: how many updates came after the fit.
    """

    fit: tuple[str, ...]
    holdout: tuple[str, ...]
    updates: int = 0

    def __len__(self) -> int:
        return len(self.fit) + len(self.holdout)

    @property
    def sha256(self) -> str:
        """Hex digest of the set, whichever of its images were held out and wherever they lie."""
        return sha256_json(sorted(self.fit + self.holdout))


def training_images(
    images: str | Path | Sequence[str | Path] | pd.DataFrame, settings: DataSettings
) -> TrainingImages:
    """Resolve what `ReConPatch.fit` is given.

    Args:
        images: a category folder (its training split is taken), a list of image paths (each its own
            group) and of such folders, or a manifest table (its rows with split ``train``, under
            ``table.attrs["root"]``).
        settings: layout and group pattern of a folder.

    Raises:
        DataError: the folder fits no layout, a manifest row is unreadable, or no image is left.
    """
    if isinstance(images, pd.DataFrame):
        return _from_manifest(images)
    if isinstance(images, (str, Path)):
        return _from_category(Path(images), settings)
    parts = [
        _from_category(path, settings) if path.is_dir() else TrainingImages((path,), (path.as_posix(),))
        for path in map(Path, images)
    ]
    if not parts:
        raise DataError("the list of images is empty; give at least one nominal image")
    paths = tuple(path for part in parts for path in part.paths)
    return TrainingImages(paths, tuple(group for part in parts for group in part.groups))


def _from_category(root: Path, settings: DataSettings) -> TrainingImages:
    files = [file for file in scan_category(root, settings.layout) if file.split == "train"]
    _refuse(root, [(file.path, file.problem) for file in files])
    groups, _ = assign_groups([file.path for file in files], root, settings.group_pattern)
    return TrainingImages(tuple(root / file.path for file in files), tuple(groups))


def _from_manifest(table: pd.DataFrame) -> TrainingImages:
    if "root" not in table.attrs:
        raise DataError('manifest: table.attrs["root"] is missing; set it to the category\'s folder')
    rows = table[table["split"] == "train"]
    problems = [None if pd.isna(problem) else str(problem) for problem in rows["problem"]]
    _refuse(Path(table.attrs["root"]), list(zip(rows["path"], problems, strict=True)))
    return TrainingImages(tuple(image_paths(rows)), tuple(rows["group"]))


def _refuse(root: Path, problems: Sequence[tuple[str, str | None]]) -> None:
    if not problems:
        raise DataError(f"{root}: holds no training image; put nominal images under train/good")
    broken = [f"{path}: {problem}" for path, problem in problems if problem is not None]
    if broken:
        raise DataError(f"{root}: {len(broken)} training images cannot be used: " + "; ".join(broken))
