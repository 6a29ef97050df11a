"""Tasks in the order of what they wait for: submitted when that is done, never when it failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture

Key = tuple[str, str, str | None]  # stage, category, backbone
Futures = dict[Key, PrefectFuture[Any]]


@dataclass(frozen=True)
class Node:
    """A task to be run.

    Attributes:
        key: its name.
        after: tasks that must have been completed before.
        submit: starts it, given the futures of all tasks so far.
    """

    key: Key
    after: tuple[Key, ...]
    submit: Callable[[Futures], PrefectFuture[Any]]


@dataclass(frozen=True)
class Outcome:
    """What became of the tasks.

    Attributes:
        states: the last state of each task that was run, in the order of the nodes.
        not_run: for each task that did not complete, the tasks that needed it and were not run.
    """

    states: dict[Key, State[Any]]
    not_run: dict[Key, list[Key]]


def run_graph(nodes: Sequence[Node]) -> Outcome:
    """Run tasks side by side, as far as the runner lets them.

    A task is submitted once it can start: one that waits occupies no worker, and one whose turn does not come
    leaves no failed run of its own.

    Args:
        nodes: each behind those that it waits for.
    """
    waiting = list(nodes)
    done: SimpleQueue[Key] = SimpleQueue()
    futures: Futures = {}
    states: dict[Key, State[Any]] = {}
    while True:
        for node in [node for node in waiting if all(_completed(states, key) for key in node.after)]:
            waiting.remove(node)
            futures[node.key] = node.submit(futures)
            futures[node.key].add_done_callback(partial(_note_end, done, node.key))
        if len(states) == len(futures):  # none is at work; what still waits does so for one that failed
            break
        key = done.get()
        futures[key].wait()
        states[key] = futures[key].state
    return _outcome(nodes, states)


def _note_end(done: SimpleQueue[Key], key: Key, _future: PrefectFuture[Any]) -> None:
    done.put(key)


def _completed(states: dict[Key, State[Any]], key: Key) -> bool:
    return key in states and states[key].is_completed()


def _outcome(nodes: Sequence[Node], states: dict[Key, State[Any]]) -> Outcome:
    causes: dict[Key, Key] = {}
    not_run: dict[Key, list[Key]] = {}
    for node in nodes:
        if node.key not in states:
            cause = causes[node.key] = next(causes[key] for key in node.after if key in causes)
            not_run[cause].append(node.key)
        elif not states[node.key].is_completed():
            causes[node.key] = node.key
            not_run[node.key] = []
    return Outcome({node.key: states[node.key] for node in nodes if node.key in states}, not_run)
