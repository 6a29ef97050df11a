"""Where the images of a category lie: MVTec AD, BTAD, or a plain folder.

Names of folders below are relative to the category root; every folder is searched with all its subfolders.

| layout | training images | test images | masks |
|---|---|---|---|
| ``mvtec``  | ``train/good`` | ``test/good``, ``test/<defect type>`` | ``ground_truth/<defect type>`` |
| ``btad``   | ``train/ok``   | ``test/ok``, ``test/ko``              | ``ground_truth/ko`` |
| ``folder`` | ``good``, or without it every image outside ``test`` and the masks | as above | as above |

In every layout ``test`` and the masks may be missing, ``good`` and ``ok`` (in any case) under ``test`` are
nominal and every other name there is a defect type, and ``masks`` may stand for ``ground_truth``. A mask
has its image's name (any image ending) with nothing or one of `masks.MASK_SUFFIXES` behind, and lies under
the same subfolder; a mask beside its image is recognised by such a suffix. A layout is recognised by the
first of ``train/good``, ``train/ok``, ``good``, ``test/good``, ``test/ok``, or images directly in the root.
`roi.png` in the root is no image but says what of them counts (`reconpatch.model.region`).
Hidden files are ignored, and links that leave the root are never read.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.data.file_listing import Entry, Stray, list_files
from reconpatch.data.masks import MASK_FOLDERS, masks_beside, match_masks
from reconpatch.errors import DataError, SettingsError

LAYOUTS = ("mvtec", "btad", "folder")
REGION = "roi.png"
_NOMINAL = ("good", "ok")
# In this order, so that a plain folder `good` with a `test` beside it is not taken for MVTec's.
_SIGNS = (
    ("train/good", "mvtec"),
    ("train/ok", "btad"),
    ("good", "folder"),
    ("test/good", "mvtec"),
    ("test/ok", "btad"),
)
_RECOGNISED = "train/good (mvtec), train/ok (btad), good, or images directly in it (folder)"


@dataclass(frozen=True)
class ImageFile:
    """One image of a category.

    Attributes:
        path: posix, relative to the category root (as ``mask_path``).
        split: ``train`` or ``test``.
        label: 0 nominal, 1 defective.
        defect_type: the folder's name, ``good`` when nominal.
        mask_path: the mask that belongs to it, if any; a nominal image should have none.
        problem: why the file must not be read (a link that leads away); None for the others.
    """

    path: str
    split: str
    label: int
    defect_type: str
    mask_path: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class _Place:
    split: str
    label: int
    defect_type: str


def detect_layout(root: Path) -> str:
    """Recognise how the category at ``root`` is laid out: one of `LAYOUTS`.

    Raises:
        DataError: ``root`` is no folder, or fits no layout; the message names categories found inside.
    """
    _check_folder(root)
    layout = _layout_of(root)
    if layout is None:
        inside = [name for name in _subfolders(root) if _layout_of(root / name)]
        hint = f"; it holds categories, give one of them: {', '.join(inside)}" if inside else ""
        raise DataError(f"{root}: is no category: it needs {_RECOGNISED}{hint}")
    return layout


def find_categories(root: Path) -> list[str]:
    """Names of the subfolders of ``root`` that are categories, sorted.

    Raises:
        DataError: ``root`` is no folder, holds no category, or is itself one.
    """
    _check_folder(root)
    if any((root / sign).is_dir() for sign, _ in _SIGNS):
        raise DataError(f"{root}: is itself a category; give the folder that holds the categories")
    found = [name for name in _subfolders(root) if _layout_of(root / name)]
    if not found:
        raise DataError(f"{root}: holds no category; each is a subfolder with {_RECOGNISED}")
    return found


def category_roots(root: Path) -> dict[str, Path]:
    """Folder by name of the category at ``root``, or of all categories in it.

    Raises:
        DataError: ``root`` is no folder, or there is no category in it.
    """
    _check_folder(root)
    if _layout_of(root) is not None:
        return {root.resolve().name: root}
    return {name: root / name for name in find_categories(root)}


def scan_category(root: Path, layout: str = "auto") -> list[ImageFile]:
    """All images of a category with their labels and masks, sorted by path.

    Args:
        root: the category's folder.
        layout: one of `LAYOUTS`, or ``auto`` to recognise it.

    Raises:
        DataError: no layout fits, or there is no image at all.
        SettingsError: ``layout`` is unknown.
    """
    images, strays = _scan(root, layout)
    if not images:
        found = f" ({strays[0].path} {strays[0].reason})" if strays else ""
        raise DataError(f"{root}: holds no image of layout {layout}{found}; put nominal images into it")
    return images


def find_strays(root: Path, layout: str = "auto") -> list[Stray]:
    """Files of a category that `scan_category` leaves out, each with the reason, sorted by path.

    These are masks of no image, files that are no images among images, images outside the layout's folders,
    folder links, special files, and names that are not UTF-8 or hold control characters.

    Raises:
        DataError: no layout fits.
    """
    return _scan(root, layout)[1]


def _scan(root: Path, layout: str) -> tuple[list[ImageFile], list[Stray]]:
    train = train_folder(root, layout)
    entries, strays = list_files(root)
    problems = {entry.path: entry.problem for entry in entries}
    places: dict[str, _Place] = {}
    masks: set[str] = set()
    for entry in entries:
        parts = PurePosixPath(entry.path).parts
        place = _place(parts, train)
        if entry.path == REGION:
            continue
        if parts[0] in MASK_FOLDERS or place:
            if not entry.is_image:
                strays.append(Stray(entry.path, "is no image by its ending; move it out of the images"))
            elif place:
                places[entry.path] = place
            else:
                masks.add(entry.path)
        elif entry.is_image:
            strays.append(Stray(entry.path, _why_unused(parts, train)))
    beside = masks_beside(list(places))
    images = [path for path in places if path not in beside]
    matches = match_masks(images, masks | beside)
    for mask in (masks | beside) - set(matches.values()):
        strays.append(Stray(mask, "is a mask without an image, or a second one; rename or remove it"))
    found = [_image_file(path, places[path], matches.get(path), problems) for path in images]
    return found, sorted(strays, key=lambda stray: stray.path)


def _image_file(path: str, place: _Place, mask: str | None, problems: dict[str, str | None]) -> ImageFile:
    problem = problems[path]
    if mask is not None and problem is None and problems[mask] is not None:
        problem = f"its mask {mask} {problems[mask]}"
    return ImageFile(path, place.split, place.label, place.defect_type, mask, problem)


def _place(parts: tuple[str, ...], train: tuple[str, ...]) -> _Place | None:
    if parts[0] == "test":
        if len(parts) < 3:
            return None
        nominal = parts[1].casefold() in _NOMINAL
        return _Place("test", 0 if nominal else 1, "good" if nominal else parts[1])
    if parts[: len(train)] != train or parts[0] in MASK_FOLDERS or len(parts) == len(train):
        return None
    if not train and len(parts) == 1 and not Entry(parts[0]).is_image:
        return None  # a licence or groups.csv beside the images of a plain folder
    return _Place("train", 0, "good")


def _why_unused(parts: tuple[str, ...], train: tuple[str, ...]) -> str:
    if parts[0] == "test":
        return "lies directly in test; put it into test/good or test/<defect type>"
    return f"lies outside {'/'.join(train)} and test and is not used; move it there or elsewhere"


def region_file(root: Path) -> Path | None:
    """The category's mask of what counts; None: all does."""
    path = root / REGION
    return path if path.exists() or path.is_symlink() else None


def train_folder(root: Path, layout: str = "auto") -> tuple[str, ...]:
    """Folders below ``root``, one in the other, that lead to the training images.

    Raises:
        DataError: no layout fits.
        SettingsError: ``layout`` is unknown.
    """
    _check_folder(root)
    layout = detect_layout(root) if layout == "auto" else layout
    if layout not in LAYOUTS:
        raise SettingsError(f"data.layout: {layout} is unknown; choose auto or one of {', '.join(LAYOUTS)}")
    if layout == "folder":
        return ("good",) if (root / "good").is_dir() else ()
    return ("train", "good" if layout == "mvtec" else "ok")


def _layout_of(root: Path) -> str | None:
    try:
        for sign, layout in _SIGNS:
            if (root / sign).is_dir():
                return layout
        files = [path.name for path in root.iterdir() if path.is_file() and path.name != REGION]
        images = any(Entry(name).is_image for name in files)
    except PermissionError:  # such as the lost+found of a data disk among the categories
        return None
    return "folder" if images else None


def _subfolders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise DataError(f"{root}: {what}; give the folder of a category")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root}: cannot be listed; check its permissions")
