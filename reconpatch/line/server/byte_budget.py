"""A budget for the bytes of all requests in memory: uploads, files named by path, JSON.

A request that does not fit is refused at once and never waits: two half received requests would wait for each
other's bytes. Why not a semaphore or anyio's CapacityLimiter: they wait, and count by one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from reconpatch.line.server.prediction_queue import OverloadedError


class ByteBudget:
    """The bytes that may be held; thread-safe."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        """Bytes that may still be taken."""
        return self._free

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """The share of one request; the block gives it back at its end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.close()

    def _take(self, size: int) -> None:
        with self._lock:
            if size > self._free:
                raise OverloadedError
            self._free -= size

    def _give(self, size: int) -> None:
        with self._lock:
            self._free += size


class Share:
    """The bytes that one request holds.

    Attributes:
        held: how many.
    """

    def __init__(self, budget: ByteBudget) -> None:
        self.held = 0
        self._budget = budget
        self._closed = False
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Count bytes before they are read.

        Raises:
            OverloadedError: they exceed what the other requests leave, or the request has ended.
        """
        with self._lock:
            if self._closed:
                raise OverloadedError
            self._budget._take(size)
            self.held += size

    def close(self) -> None:
        """Give all of them back."""
        with self._lock:
            self._closed = True
            self._budget._give(self.held)
            self.held = 0
