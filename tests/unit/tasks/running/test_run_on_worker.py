"""What a worker fetches before a stage, and what it publishes after."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tasks.running import run_on_worker as worker
from tasks.running.run_stage import Finished


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    done: list[object] = []
    monkeypatch.setattr(
        worker, "bring_images", lambda job, digest: done.append(("images", job.category, digest))
    )
    monkeypatch.setattr(worker, "bring", lambda finished: done.append(("inputs", finished)))
    monkeypatch.setattr(worker, "send", lambda finished: done.append("outputs") or finished)
    return done


def test_a_stage_gets_its_images_and_inputs_and_publishes_its_outputs(toy, steps: list[object]) -> None:
    earlier = Finished("first", toy.job, toy.job.folder("first"), ran=True)
    done = worker.run_on_worker("first", toy.job, [earlier, None], {"brick": "abc"})
    assert (done.stage, done.ran, toy.ran) == ("first", True, ["first"])
    assert steps == [("images", "brick", "abc"), ("inputs", [earlier]), "outputs"]


def test_a_stage_that_reads_no_images_fetches_none(toy, steps: list[object]) -> None:
    worker.run_on_worker("first", toy.job)
    steps.clear()
    worker.run_on_worker("second", toy.job, images={"brick": "abc"})
    assert steps == [("inputs", []), "outputs"]


def test_a_part_is_done_under_the_lock_and_publishes_nothing(
    toy, steps: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def lock() -> Iterator[None]:
        steps.append("locked")
        yield
        steps.append("free")

    body = SimpleNamespace(part=lambda job, number: steps.append((job.category, number)))
    monkeypatch.setattr(worker.importlib, "import_module", lambda _: body)
    worker.run_part_on_worker("first", toy.job, 3, around=lock)
    assert steps == [("images", "brick", None), ("inputs", []), "locked", ("brick", 3), "free"]
