"""All files of a category, without following links anywhere else."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.errors import DataError

IMAGE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".gif"}
)
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Entry:
    """A file below the root: posix path relative to it, and why it must not be read (None: it may)."""

    path: str
    problem: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether its name ends as an image's does; the content is another matter."""
        return PurePosixPath(self.path).suffix.lower() in IMAGE_ENDINGS


@dataclass(frozen=True)
class Stray:
    """Something in a category that is none of its images.

    Attributes:
        path: posix, relative to the root.
        reason: why, and what to do.
        listed: whether what it leads to is listed under its own path, so that nothing is passed over.
    """

    path: str
    reason: str
    listed: bool = False


def list_files(root: Path) -> tuple[list[Entry], list[Stray]]:
    """Files below ``root`` sorted by path, and what cannot be listed as one.

    Hidden names and the droppings of desktop systems are left out. A file link that stays inside the root
    is a file; one that leaves it or leads nowhere is an entry with a problem. Strays are folder links, and
    names that are not UTF-8 or hold control characters.

    Raises:
        DataError: a folder cannot be read.
    """
    found = list(_walk(root, "", os.path.realpath(root)))
    entries = [item for item in found if isinstance(item, Entry)]
    strays = [item for item in found if isinstance(item, Stray)]
    return sorted(entries, key=lambda item: item.path), sorted(strays, key=lambda item: item.path)


def _walk(folder: Path, prefix: str, real_root: str) -> Iterator[Entry | Stray]:
    try:
        with os.scandir(folder) as listing:
            items = list(listing)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from None
    for item in items:
        path = prefix + item.name
        if item.name.startswith(".") or item.name.lower() in _SYSTEM_FILES:
            continue
        if printable(item.name) != item.name:
            fault = "holds control characters" if has_control_characters(item.name) else "is not UTF-8"
            yield Stray(printable(path), f"has a name that {fault}; rename it")
        elif item.is_symlink():
            yield _link(item, path, real_root)
        elif item.is_dir():
            yield from _walk(folder / item.name, path + "/", real_root)
        elif item.is_file():
            yield Entry(path)
        else:
            yield Stray(path, "is neither a file nor a folder; remove it")


def _link(item: os.DirEntry[str], path: str, real_root: str) -> Entry | Stray:
    target = os.path.realpath(item.path)
    leaves = os.path.commonpath([target, real_root]) != real_root
    kind = _kind(item.path)
    if stat.S_ISDIR(kind):
        where = " out of the category" if leaves else ""
        reason = f"is a link to a folder{where}; put the files themselves there"
        hidden = any(part.startswith(".") for part in PurePosixPath(target[len(real_root) :]).parts)
        return Stray(path, reason, listed=not leaves and not hidden)
    if leaves:
        return Entry(path, "is a link that leaves the category; put the file itself there")
    if not stat.S_ISREG(kind):
        return Entry(path, "is a link to no file; put the file itself there")
    return Entry(path)


def _kind(path: str) -> int:
    """Mode of what a link leads to; 0 where that is nothing, or the link itself, or cannot be reached."""
    try:
        return Path(path).stat().st_mode
    except OSError:
        return 0


def printable(text: str | Path) -> str:
    """A name as people and files can show it: bytes that are not UTF-8 and control characters as escapes."""
    readable = str(text).encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), readable)


def has_control_characters(text: str) -> bool:
    """Whether a text holds line ends, tabs, or other characters that steer a terminal or a file's reader."""
    return _CONTROL.search(text) is not None


def links_to_nothing(root: Path) -> list[Path]:
    """Links below ``root``, hidden ones too, that lead to nothing or to themselves, sorted."""
    found = []
    for folder, _, names in os.walk(root):
        links = (Path(folder) / name for name in names)  # of links to folders none is broken
        found += [link for link in links if link.is_symlink() and not _kind(str(link))]
    return sorted(found)


def expand_images(paths: Iterable[Path]) -> list[Path]:
    """Images as given, and in place of each folder the images below it, sorted.

    A link to a folder that is listed anyway is passed over; anything else that would be left out unseen is
    an error.

    Raises:
        DataError: a path does not exist, a folder holds no image, a link leaves it or leads nowhere, or a
            name in it is not UTF-8 or holds control characters.
    """
    images: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise DataError(f"{path}: there is no such file or folder")
            images.append(path)
            continue
        files, strays = list_files(path)
        entries = [entry for entry in files if entry.is_image]
        problems = [(entry.path, entry.problem) for entry in entries if entry.problem is not None]
        problems += [(stray.path, stray.reason) for stray in strays if not stray.listed]
        if problems:
            name, reason = problems[0]
            raise DataError(f"{path / name}: {reason}")
        if not entries:
            raise DataError(f"{path}: holds no image ({', '.join(sorted(IMAGE_ENDINGS))})")
        images += [path / entry.path for entry in entries]
    return images
