"""Tasks that wait for each other, with a runner that ends them in the order a test asks for."""

import threading
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType

from flows.support.task_graph import Key, Node, run_graph


class _Future:
    """A run that ends when a test says so."""

    def __init__(self) -> None:
        self.state = State(type=StateType.RUNNING)
        self._ended = threading.Event()
        self._callbacks: list[Any] = []

    def add_done_callback(self, callback: Any) -> None:
        self._callbacks.append(callback)
        if self._ended.is_set():
            callback(self)

    def wait(self) -> None:
        assert self._ended.is_set()

    def end(self, kind: StateType) -> None:
        self.state = State(type=kind)
        self._ended.set()
        for callback in self._callbacks:
            callback(self)


def _key(name: str) -> Key:
    return name, "nut", None


class _Runner:
    """Ends each task at once, as ``ends`` says, and notes what was submitted when what was done."""

    def __init__(self, **ends: StateType) -> None:
        self.ends = ends
        self.submitted: list[str] = []

    def node(self, name: str, *after: str) -> Node:
        def submit(futures: dict[Key, Any]) -> Any:
            assert all(futures[_key(one)].state.is_completed() for one in after)
            self.submitted.append(name)
            future = _Future()
            future.end(self.ends.get(name, StateType.COMPLETED))
            return future

        return Node(_key(name), tuple(map(_key, after)), submit)


def test_each_is_submitted_when_what_it_waits_for_is_done() -> None:
    runner = _Runner()
    nodes = [runner.node("validate"), runner.node("features", "validate"), runner.node("train", "features")]
    outcome = run_graph(nodes)
    assert runner.submitted == ["validate", "features", "train"]
    assert list(outcome.states) == [node.key for node in nodes]
    assert outcome.not_run == {}


@pytest.mark.parametrize("end", [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED, StateType.PENDING])
def test_what_waits_for_one_that_did_not_complete_is_not_run_and_told_of_the_first_cause(end) -> None:
    runner = _Runner(features=end, other=end)
    outcome = run_graph(
        [
            runner.node("validate"),
            runner.node("features", "validate"),
            runner.node("other"),
            runner.node("free", "validate"),
            runner.node("train", "features"),
            runner.node("evaluate", "free", "train", "other"),
        ]
    )
    assert runner.submitted == ["validate", "other", "features", "free"]
    assert {key[0]: [one[0] for one in left] for key, left in outcome.not_run.items()} == {
        "features": ["train", "evaluate"],
        "other": [],
    }
    assert [key[0] for key in outcome.states] == ["validate", "features", "other", "free"]


def test_none_waits_for_what_it_does_not_depend_on() -> None:
    slow = _Future()
    ended: list[str] = []

    def at_once(_: dict[Key, Any]) -> Any:
        ended.append("after quick")
        future = _Future()
        future.end(StateType.COMPLETED)
        slow.end(StateType.COMPLETED)  # only now: waiting for it first would never end
        return future

    runner = _Runner()
    nodes = [
        Node(_key("slow"), (), lambda _: slow),
        runner.node("quick"),
        Node(_key("after"), (_key("quick"),), at_once),
        runner.node("after slow", "slow"),
    ]
    outcome = run_graph(nodes)
    assert ended == ["after quick"]
    assert all(state.is_completed() for state in outcome.states.values())
    assert len(outcome.states) == 4
