"""Files and folders that are complete or absent: written beside, then renamed.

Libraries weighed: atomicwrites is archived, and like the smaller ones it writes single files, no folders.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from reconpatch.errors import SettingsError

_CHUNK_BYTES = 1 << 20
_NEW, _OLD = ".new", ".old"  # endings of what `atomic_folder` works on
# It can only be read by setting it, which must not happen while other threads create files.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in chunks of 1 MiB.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; a FIFO or a device is refused and never waited for.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
        ValueError: the path holds a NUL.
    """
    # Before it is opened, since opening a device may already have an effect, and after, since the path may
    # lead elsewhere by then.
    _check_regular(path.stat(), path)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")  # noqa: PTH123 (a descriptor, not a path)


def _check_regular(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(dump_json(value).encode()).hexdigest()


def dump_json(value: Any) -> str:
    """JSON text with sorted keys, so that equal values are equal bytes.

    Raises:
        ValueError: for NaN and infinities, which JSON cannot hold.
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; it takes its place when the block ends well.

    A folder that was at ``path`` is moved aside first and removed last, so that a kill leaves
    either the old one, the new one, or (between two renames) none, never a mixture. Of several writers at
    the same time the last one stays. A link is followed, and stays.

    Raises:
        SettingsError: ``path`` is a file, or a folder that the process works in.
    """
    path = _replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_NEW, dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_UMASK)
        for written in temporary.rglob("*"):
            _sync(written)
        _exchange(temporary, path)
        _sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replaceable(path: Path) -> Path:
    """Where the folder really lies, or shall lie."""
    target = path.resolve()
    with suppress(FileNotFoundError):  # a process may outlive the folder that it works in
        if Path.cwd().is_relative_to(target):
            raise SettingsError(f"{path}: the process works in this folder; give another one to write")
    with suppress(FileNotFoundError):
        # Asked once: another writer may move the folder aside between two questions.
        if not stat.S_ISDIR(target.stat().st_mode):
            raise SettingsError(f"{path}: is a file; remove it, or give another folder to write")
    return target


def _exchange(temporary: Path, path: Path) -> None:
    old = temporary.with_suffix(_OLD)
    while True:
        with suppress(FileNotFoundError):
            path.rename(old)
        try:
            temporary.rename(path)
        except OSError as error:
            # Another writer was faster: what it wrote is whole, and the next to be moved aside.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if old.exists():
                    old.rename(path)
                raise
        else:
            return shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def remove_abandoned(path: Path) -> None:
    """Remove what `atomic_folder` left beside ``path`` where it was killed; nobody else may be writing it."""
    path = path.resolve()
    # No dot between name and suffix: `.a.b.<random>.new` belongs to `a.b`, not to `a`.
    left = re.compile(rf"\.{re.escape(path.name)}\.[^.]+({re.escape(_NEW)}|{re.escape(_OLD)})")
    for beside in path.parent.glob(".*/"):
        if left.fullmatch(beside.name):
            shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with sorted keys, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(dump_json(value), encoding="utf-8")
