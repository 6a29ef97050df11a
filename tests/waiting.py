"""Waiting for a cause: no test may fail because a machine is slow."""

import time
from collections.abc import Callable

PATIENCE = 900.0  # so that a hang ends; nothing that works needs a tenth of it, on a busy machine either


def wait_for(what: str, ready: Callable[[], object], seconds: float = PATIENCE) -> float:
    """Wait until ``ready()`` is true; the seconds that it took, to print and not to assert."""
    start = time.monotonic()
    while not ready():
        assert time.monotonic() - start < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - start
