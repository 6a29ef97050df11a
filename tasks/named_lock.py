"""A lock with a name: one process of the project holds it, and the system frees it when that dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconpatch.errors import ModelError

WAIT_SECONDS = 5.0
_LOOK_SECONDS = 0.05


@contextmanager
def hold(name: str, project: Path) -> Iterator[None]:
    """Hold a lock for the block; wait a moment for who holds it.

    Args:
        name: of the lock.
        project: processes of the same project exclude each other.

    Raises:
        ModelError: somebody else holds it, and did not let go in time.
    """
    path = project / ".cache" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        _acquire(lock.fileno(), name, path)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _acquire(descriptor: int, name: str, path: Path) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                holder = path.read_text(encoding="utf-8").strip() or "unknown"
                raise ModelError(
                    f"{name}: process {holder} is at it; wait until it is done, then look before asking again"
                ) from None
            time.sleep(_LOOK_SECONDS)
        else:
            return
