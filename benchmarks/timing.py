"""Pieces of work timed in turn, so that what else the machine does weighs on all alike."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def in_turn(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each piece of work over rounds of all of them; the first ``warm_up`` do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            start = clock()
            call()
            seconds[name].append(clock() - start)
    return {name: median(values[warm_up:]) for name, values in seconds.items()}
