"""Seconds an image of a candidate and of its champion, measured in turn."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.registry import gate_check

IMAGES = [Path("a.png"), Path("b.png")]


class Clock:
    """A clock that only detectors move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def _detector(clock: Clock, seconds, turns: list[int]):
    """Takes ``seconds(turn)`` an image and counts its turns."""

    def predict(_: Path) -> None:
        clock.now += seconds(turns[0] // len(IMAGES))
        turns[0] += 1

    return SimpleNamespace(predict=predict)


def _measured(monkeypatch: pytest.MonkeyPatch, candidate) -> tuple[float, float, int]:
    clock, turns = Clock(), [0]
    monkeypatch.setattr(gate_check, "time", clock)
    detectors = [_detector(clock, candidate, turns), _detector(clock, lambda _: 1.0, [0])]
    return *gate_check._take_turns(detectors, IMAGES, 1.5), turns[0] // len(IMAGES)


def test_a_busy_machine_makes_no_candidate_slow(monkeypatch) -> None:
    own, champion, turns = _measured(monkeypatch, lambda turn: 3.0 if turn < 12 else 1.1)
    assert (own, champion) == (pytest.approx(1.1), pytest.approx(1.0))
    assert turns == 13  # no more than it needs


def test_a_slow_candidate_stays_slow(monkeypatch) -> None:
    own, _, turns = _measured(monkeypatch, lambda turn: 1.6 + turn % 2)
    assert own == pytest.approx(1.6)
    assert turns == 1 + gate_check._MOST_ROUNDS


def test_few_turns_do_where_the_candidate_is_fast(monkeypatch) -> None:
    assert _measured(monkeypatch, lambda _: 1.2)[2] == 1 + gate_check._ROUNDS
