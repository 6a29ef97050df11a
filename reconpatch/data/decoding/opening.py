"""Files that strangers name or put in a folder: opened first, then checked.

Whatever a check finds under a path may be replaced before the path is opened. So the file is held first, and
its kind, place and size are those of the held file. A FIFO is never waited for. The functions raise
`DataError` with the bare reason; the caller puts the file's name before it.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import open_regular

_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_OUTSIDE = "does not lie under the allowed root"
_NOT_PLAIN = "is not a plain file; give the path of an image"


def read_regular(path: Path, admit: Callable[[int], None]) -> bytes:
    """All bytes of a regular file.

    Args:
        path: where it lies; links are followed.
        admit: gets the size in bytes before the file is read; it raises an error to refuse the file.

    Raises:
        DataError: the file is missing, of another kind or empty, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            return _read(file, admit)
    except (OSError, ValueError) as error:
        raise DataError(_reason(error)) from None


def read_below(root: Path, path: Path, admit: Callable[[int], None]) -> bytes:
    """The same of a file that lies below a folder, links followed.

    Nothing outside the folder is read, whoever moves files and links meanwhile, and no error says whether
    there is a file outside.

    Args:
        root: the folder.
        path: of the file, absolute or relative to the working directory.
        admit: as for `read_regular`.

    Raises:
        DataError: as `read_regular`, or the file does not lie below ``root``.
    """
    try:
        with _held(root) as folder, _held(path) as file:
            if not _place(file).is_relative_to(_place(folder)):
                raise DataError(_OUTSIDE)
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise DataError(_NOT_PLAIN)
            with _opened(file) as opened:
                return _read(opened, admit)
    except (OSError, ValueError) as error:
        raise DataError(_reason(error) if _seems_below(root, path) else _OUTSIDE) from None


if sys.platform == "darwin":
    import fcntl

    @contextmanager
    def _held(path: Path) -> Iterator[int]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _place(descriptor: int) -> Path:
        return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))

    def _opened(descriptor: int) -> BinaryIO:
        return open(os.dup(descriptor), "rb")  # noqa: PTH123 (a descriptor, not a path)

else:

    @contextmanager
    def _held(path: Path) -> Iterator[int]:
        # Holds the file without opening it: a device or a FIFO elsewhere does not notice.
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _place(descriptor: int) -> Path:
        return Path(f"/proc/self/fd/{descriptor}").readlink()

    def _opened(descriptor: int) -> BinaryIO:
        return open_regular(Path(f"/proc/self/fd/{descriptor}"))


def _read(file: BinaryIO, admit: Callable[[int], None]) -> bytes:
    size = os.fstat(file.fileno()).st_size
    admit(size)
    data = file.read(size)  # and no more, though it grows meanwhile
    if not data:
        raise DataError("is empty (zero bytes); copy it again or remove it")
    return data


def _seems_below(root: Path, path: Path) -> bool:
    """Whether a reason may be given; this decides on words alone, not on what is read."""
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))
    except (OSError, ValueError):
        return False


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError) or error.errno in _ABSENT:  # ValueError: a NUL in the path
        return "there is no such file; check the path (or where the link points)"
    if error.errno in (errno.EINVAL, errno.ENXIO):  # what `open_regular` says, and a socket
        return _NOT_PLAIN
    return f"cannot be read ({error.strerror}); check its permissions and the disk"
