"""Where the work runs: the device and the CPU threads, chosen here and nowhere else."""

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from reconpatch.errors import SettingsError


def choose_device(name: str) -> torch.device:
    """Resolve the parameter ``device``.

    Args:
        name: ``auto`` (CUDA where there is one, else the CPU), ``cpu``, ``cuda`` or ``cuda:n``.

    Raises:
        SettingsError: CUDA is asked for and absent, or has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise SettingsError(
            f"device: {name} was asked for, but torch {torch.__version__} finds no usable CUDA device; "
            "set device to cpu or auto, or check the driver with nvidia-smi"
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise SettingsError(f"device: {name} does not exist; this machine has cuda:0 to cuda:{count - 1}")
    return device


def usable_cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(threads: int) -> int:
    """Set the threads of torch for what the calling thread computes.

    Args:
        threads: number of threads; 0 takes every core that the process may use.

    Returns:
        The number that was set.
    """
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone for the block.

    For many small steps: threads gain next to nothing there, and wait for each other at every step as soon
    as something else wants a core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def worker_pool(workers: int) -> ThreadPoolExecutor:
    """Start a pool whose threads compute with one torch thread each.

    Work that is split by image runs best with one thread an image: no barriers between the threads, and
    the bytes of a result do not depend on how many threads there are.

    Args:
        workers: number of threads, at least 1.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=_compute_alone)
    # Torch takes the number last set by any thread for all threads to come. So let every worker start
    # now, then set the caller's number again.
    started = threading.Barrier(workers)
    list(pool.map(lambda _: started.wait(), range(workers)))
    torch.set_num_threads(before)
    return pool


def _compute_alone() -> None:
    # A thread's first question for its number makes torch set the default, so ask before setting.
    torch.get_num_threads()
    torch.set_num_threads(1)
