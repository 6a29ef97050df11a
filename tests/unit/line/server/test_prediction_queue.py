"""The queue before the detectors."""

import asyncio
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from waiting import PATIENCE

from reconpatch.line.server.prediction_queue import OverloadedError, PredictionQueue
from reconpatch.line.server.prometheus_metrics import Metrics


class Detector:
    """Gives each image's first value back; holds its first batch until ``go`` is set."""

    def __init__(self):
        self.batches, self.begun, self.go = [], threading.Event(), threading.Event()

    def stream(self, images):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.batches.append(len(images))
        for image in images:
            if image.flat[0] == 13:
                raise ValueError("thirteen")
            yield int(image.flat[0])


def served_category(detector):
    return SimpleNamespace(current=SimpleNamespace(detector=detector))


def image(value):
    return np.full((1, 1, 3), value, np.uint8)


async def waiting(queue, count):
    """Until as many images wait."""
    while len(queue._waiting) < count:
        await asyncio.sleep(0.001)


def run(body, **options):
    async def inside():
        queue = PredictionQueue(Metrics(), **{"batch": 4, "waiting": 100, **options})
        queue.start()
        return await body(queue)

    return asyncio.run(inside())


def test_images_that_arrive_meanwhile_go_together_and_each_gets_its_own_answer():
    detector, other = Detector(), Detector()
    one, two = served_category(detector), served_category(other)

    async def body(queue):
        asked = [asyncio.create_task(queue.predict(one, image(value))) for value in range(10)]
        asked.append(asyncio.create_task(queue.predict(two, image(99))))
        await asyncio.to_thread(detector.begun.wait)
        asked += [asyncio.create_task(queue.predict(one, image(value))) for value in (20, 21)]
        await waiting(queue, 9)  # four of the eleven are at work
        detector.go.set()
        other.go.set()
        answers = [answer for answer, _ in await asyncio.gather(*asked)]
        await queue.stop()
        return answers

    assert run(body) == [*range(10), 99, 20, 21]
    assert sum(detector.batches) == 12
    assert max(detector.batches) == 4
    assert len(detector.batches) <= 4
    assert other.batches == [1]


def test_an_image_that_fails_does_not_take_the_others_with_it():
    detector = Detector()

    async def body(queue):
        asked = [asyncio.create_task(queue.predict(category, image(value))) for value in (1, 13, 2)]
        await asyncio.to_thread(detector.begun.wait)
        detector.go.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    category = served_category(detector)
    one, thirteen, two = run(body)
    assert (one[0], two[0]) == (1, 2)
    assert isinstance(thirteen, RuntimeError)


def test_too_many_are_refused_and_those_given_up_are_not_scored():
    detector = Detector()
    category = served_category(detector)

    async def body(queue):
        first = asyncio.create_task(queue.predict(category, image(0)))
        await asyncio.to_thread(detector.begun.wait)
        others = [asyncio.create_task(queue.predict(category, image(value))) for value in (1, 2)]
        await waiting(queue, 2)
        with pytest.raises(OverloadedError):
            await queue.predict(category, image(3))
        others[0].cancel()
        detector.go.set()
        assert (await first)[0] == 0
        assert (await others[1])[0] == 2
        assert queue.alive
        await queue.stop()
        assert not queue.alive

    run(body, waiting=2)
    assert detector.batches == [1, 1]


def test_stopping_answers_what_waits():
    detector = Detector()
    category = served_category(detector)

    async def body(queue):
        asked = [asyncio.create_task(queue.predict(category, image(value))) for value in range(6)]
        await asyncio.to_thread(detector.begun.wait)
        detector.go.set()
        await queue.stop()
        return [answer for answer, _ in await asyncio.gather(*asked)]

    assert run(body) == list(range(6))
