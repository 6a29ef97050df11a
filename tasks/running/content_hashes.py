"""Content hashes of files and folders, remembered by the files' size, time and inode."""

import errno
import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from reconpatch.storage.atomic_files import sha256_file, sha256_json, write_json
from tasks.running.full_disk import told_of_a_full_disk

# A file that was written this recently may be written again without its time stamp moving on.
_SETTLED_SECONDS = 2.0
_IGNORED = "__pycache__"  # in .dvcignore too, so that DVC hashes the same files of data and code


class Hasher:
    """SHA-256 of files under a project, each read once until its size, time or inode changes.

    Attributes:
        project: paths are remembered relative to it.
    """

    def __init__(self, project: Path) -> None:
        self.project = project
        self._memory = project / ".cache" / "hashes.json"
        self._known: dict[str, list[int | str]] = _read(self._memory)
        self._grown = False

    def file(self, path: Path) -> str:
        """Hex SHA-256 of one file's bytes."""
        stat = path.stat()
        state: list[int | str] = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        name = str(path)
        known = self._known.get(name)
        if known is not None and known[:3] == state:
            return str(known[3])
        digest = sha256_file(path)
        if time.time() - max(stat.st_mtime, stat.st_ctime) > _SETTLED_SECONDS:
            self._known[name] = [*state, digest]
            self._grown = True
        return digest

    def tree(self, path: Path) -> dict[str, str]:
        """Hash of every file below a folder by its posix path; of a file by its own name.

        Raises:
            FileNotFoundError: there is nothing at ``path``; ``filename`` tells.
        """
        if path.is_file():
            return {path.name: self.file(path)}
        if not path.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return {file.relative_to(path).as_posix(): self.file(file) for file in _files(path)}

    def digest(self, path: Path) -> str:
        """One hash for a file, or for a folder's relative paths and contents."""
        return self.file(path) if path.is_file() else sha256_json(self.tree(path))

    def remember(self) -> None:
        """Write what was learnt to the project's cache; losing it costs time only.

        Raises:
            FullDiskError: there is no room for it, nor then for what comes next.
        """
        if self._grown:
            with told_of_a_full_disk(str(self._memory)):
                write_json(self._memory, dict(self._known))
            self._grown = False


@cache
def hasher_of(project: Path) -> Hasher:
    """The project's one memory of file hashes in this process."""
    return Hasher(project)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _IGNORED not in path.relative_to(folder).parts:
            yield path


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
