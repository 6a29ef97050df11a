"""Images of all requests through the detectors, many at once, in one thread that computes.

While a batch computes, others arrive; the next batch takes them together. Nobody waits for one to fill.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.served_category import Served, Slot
from reconpatch.prediction import Prediction

_log = logging.getLogger(__name__)


class OverloadedError(Exception):
    """Too many images wait already."""


@dataclass(frozen=True)
class _Item:
    slot: Slot
    image: NDArray[np.uint8]
    answer: "asyncio.Future[tuple[Prediction, Served]]"


class Batcher:
    """The queue before the detectors. Use it within one event loop."""

    def __init__(self, metrics: Metrics, *, batch: int, waiting: int) -> None:
        """Make an idle one.

        Args:
            metrics: counted in.
            batch: most images given to a detector at once.
            waiting: most images that may wait.
        """
        self._metrics = metrics
        self._batch = batch
        self._limit = waiting
        self._waiting: deque[_Item] = deque()
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reconpatch-detector")
        self._task: asyncio.Task[None] | None = None
        self._busy_since: float | None = None

    def start(self) -> None:
        """Begin to work."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Finish what waits, then end."""
        while self._task is not None and not self._task.done() and (self._waiting or self._busy_since):
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    @property
    def alive(self) -> bool:
        """Whether images that come now will be worked on."""
        return self._task is not None and not self._task.done()

    @property
    def busy_seconds(self) -> float:
        """How long the present batch has been computing; 0 between batches."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    async def predict(self, slot: Slot, image: NDArray[np.uint8]) -> tuple[Prediction, Served]:
        """Score one image with the detector that the slot has when its turn comes.

        Args:
            slot: of the image's category.
            image: (H, W, 3) uint8.

        Raises:
            OverloadedError: too many images wait.
        """
        if len(self._waiting) >= self._limit:
            raise OverloadedError
        answer: asyncio.Future[tuple[Prediction, Served]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Item(slot, image, answer))
        self._metrics.waiting.set(len(self._waiting))
        self._arrived.set()
        return await answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._next_batch():
                served = batch[0].slot.served
                images = [item.image for item in batch]
                self._busy_since = time.monotonic()
                try:
                    found = await loop.run_in_executor(self._thread, _score, served.detector, images)
                finally:
                    self._busy_since = None
                for item, one in zip(batch, found, strict=True):
                    if item.answer.done():  # its request was given up meanwhile
                        continue
                    if isinstance(one, Exception):
                        item.answer.set_exception(one)
                    else:
                        item.answer.set_result((one, served))

    def _next_batch(self) -> list[_Item]:
        """The image that has waited longest and others of its category; those given up are dropped."""
        alive = deque(item for item in self._waiting if not item.answer.done())
        batch: list[_Item] = []
        rest: deque[_Item] = deque()
        for item in alive:
            mine = item.slot is alive[0].slot and len(batch) < self._batch
            (batch if mine else rest).append(item)
        self._waiting = rest
        self._metrics.waiting.set(len(rest))
        if batch:
            self._metrics.batches.observe(len(batch))
        return batch


def _score(detector: FittedDetector, images: Sequence[NDArray[np.uint8]]) -> list[Prediction | Exception]:
    try:
        return list(detector.stream(images))
    except Exception:
        if len(images) > 1:  # one image must not take the others' answers with it
            return [answer for image in images for answer in _score(detector, [image])]
        _log.exception("an image could not be scored")
        return [RuntimeError("the detector failed on this image; the server's log says why")]
