"""What must not happen twice at once in a project, in whatever process: a lock file for each.

The lock is the system's own: it is free the moment that its holder is gone, by a kill or a power cut too,
and needs no server. It reaches as far as the project's folder does, over a network file system too.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from prefect import runtime

from reconpatch.storage.file_locks import file_lock

DVC = "dvc"  # DVC's own lock fails at once when it is taken


def gpu(index: int | None) -> str:
    """The lock of one GPU: of this machine, among those that the process sees, number ``index``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"gpu-{socket.gethostname()}-{visible}-{index or 0}"


def category(dataset: str, name: str) -> str:
    """The lock of a category that is retrained."""
    return f"retrain-{dataset}-{name}"


@contextmanager
def hold(name: str, project: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock for the block; wait for it, however long its holder lives.

    Raises:
        TimeoutError: it is taken, and ``wait`` is False.
    """
    path = project / ".cache" / f"{quote(name, safe='')}.lock"
    run = f"flow run {run}" if (run := runtime.flow_run.id) else ""
    with file_lock(path, None if wait else 0.0, holder=run):
        yield
