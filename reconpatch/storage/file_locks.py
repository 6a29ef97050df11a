"""Locks between processes, each a file that says who holds it.

The lock itself is the library filelock's. Its `FileLock` lets its holder in again and does not say who keeps
a waiting process out, so this module locks the file that it opened and keeps the holder's name in it.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

_POLL_SECONDS = 0.05
_FIRST_NOTICE_SECONDS = 1.0  # most locks are held for less: no notice for these
_NOTICE_SECONDS = 60.0
_HOLDER_BYTES = 1 << 12

_LOG = logging.getLogger(__name__)


@contextmanager
def file_lock(path: Path, patience: float | None = None, holder: str = "") -> Iterator[None]:
    """Hold the lock file ``path`` for the block; other processes and threads wait.

    The system frees the lock of a killed process; the file stays. A waiting process logs who holds the lock
    after one second and then every minute.

    Args:
        path: of the lock file.
        patience: seconds to wait for another holder; None: no limit.
        holder: what waiting processes read about the holder, beside its process and since when it holds.

    Raises:
        TimeoutError: the lock is still held elsewhere.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:
        _acquire(file, path, patience)
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        who = ", ".join(filter(None, (f"process {os.getpid()} on {socket.gethostname()}", holder)))
        _write_holder(file, f"{who}, since {since}")
        yield
        _write_holder(file, "")


def _write_holder(file: BinaryIO, text: str) -> None:
    with suppress(OSError):  # on a full disk the lock holds, though the file does not say for whom
        file.truncate(0)
        file.write(text.encode())


def _read_holder(file: BinaryIO) -> str:
    with suppress(OSError):  # Windows lets nobody read a locked file
        file.seek(0)
        if text := file.read(_HOLDER_BYTES):
            return text.decode(errors="replace")
    return "an unnamed process"


def _acquire(file: BinaryIO, path: Path, patience: float | None) -> None:
    begun = time.monotonic()
    notice = begun + _FIRST_NOTICE_SECONDS
    while not lock_descriptor(file.fileno(), blocking=False):
        now = time.monotonic()
        if patience is not None and now >= begun + patience:
            raise TimeoutError(f"{path}: another process holds it ({_read_holder(file)})")
        if now >= notice:
            _LOG.warning("waits for %s, held by %s", path, _read_holder(file))
            notice = now + _NOTICE_SECONDS
        time.sleep(_POLL_SECONDS)
