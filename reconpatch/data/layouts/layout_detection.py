"""Which layout a category's folder has, and which folders are categories.

A folder is recognised by the first sign of any layout that is there (`Layout.signs`), or as a plain folder by
images directly in it.
"""

import os
from itertools import zip_longest
from pathlib import Path

from reconpatch.data.file_listing import Entry
from reconpatch.data.layouts.layout import Layout
from reconpatch.data.layouts.layout_registry import AUTO, LAYOUT_NAMES, LAYOUTS
from reconpatch.data.layouts.plain_folder import PLAIN_FOLDER
from reconpatch.errors import DataError, SettingsError

REGION = "roi.png"
_SIGNS = tuple(
    (sign, layout)
    for rank in zip_longest(*(layout.signs for layout in LAYOUTS))
    for sign, layout in zip(rank, LAYOUTS, strict=True)
    if sign is not None
)
_RECOGNISED = ", ".join(layout.recognised_by for layout in LAYOUTS)


def detect_layout(root: Path) -> str:
    """Recognise how the category at ``root`` is laid out: the name of a layout.

    Raises:
        DataError: ``root`` is no folder, or fits no layout; the message names categories found inside.
    """
    return find_layout(root).name


def find_layout(root: Path, name: str = AUTO) -> Layout:
    """The layout called ``name``, or with ``auto`` the one that the folder at ``root`` has.

    Raises:
        DataError: ``root`` is no folder, or fits no layout; the message names categories found inside.
        SettingsError: there is no layout called ``name``.
    """
    _check_folder(root)
    if name != AUTO:
        if name not in LAYOUT_NAMES:
            raise SettingsError(
                f"data.layout: {name} is unknown; choose {AUTO} or one of {', '.join(LAYOUT_NAMES)}"
            )
        return LAYOUTS[LAYOUT_NAMES.index(name)]
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


def train_folder(root: Path, layout: str = AUTO) -> tuple[str, ...]:
    """Folders below ``root``, one in the other, that lead to the training images.

    Raises:
        DataError: no layout fits.
        SettingsError: ``layout`` is unknown.
    """
    return find_layout(root, layout).train_folder(root)


def region_file(root: Path) -> Path | None:
    """The category's mask of what counts; None: all does."""
    path = root / REGION
    return path if path.exists() or path.is_symlink() else None


def _layout_of(root: Path) -> Layout | None:
    try:
        for sign, layout in _SIGNS:
            if (root / sign).is_dir():
                return layout
        files = [path.name for path in root.iterdir() if path.is_file() and path.name != REGION]
        images = any(Entry(name).is_image for name in files)
    except PermissionError:  # such as the lost+found of a data disk among the categories
        return None
    return PLAIN_FOLDER if images else None


def _subfolders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check_folder(root: Path) -> None:
    if not root.is_dir():
        what = "is a file" if root.exists() else "there is no such folder"
        raise DataError(f"{root}: {what}; give the folder of a category")
    if not os.access(root, os.R_OK | os.X_OK):
        raise DataError(f"{root}: cannot be listed; check its permissions")
