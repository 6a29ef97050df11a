import numpy as np
import pandas as pd
import pytest

from reconpatch.errors import DataError
from reconpatch.monitoring import find_drift


def _images(random: np.random.Generator, count: int, *, brightness: float = 0.0) -> pd.DataFrame:
    rows = {"score": random.gamma(4, 1, count), "brightness": random.normal(brightness, 1, count)}
    rows |= {f"embedding_{i}": random.normal(0, 1, count) for i in range(4)}
    return pd.DataFrame({"group": [str(i) for i in range(count)], **rows})


def test_false_alarms_are_as_rare_as_asked_for_over_a_stream_of_checks() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for stream in range(50):
        reference, new = _images(random, 60), _images(random, 60)
        alarms += any(
            find_drift(reference, new[:count], rate=0.05, checks=3, seed=stream).alarm
            for count in (20, 40, 60)
        )
    assert alarms <= 7


def test_a_shift_is_found_and_named() -> None:
    random = np.random.default_rng(1)
    found = find_drift(
        _images(random, 60), _images(random, 40, brightness=1.5), rate=0.05, checks=168, seed=0
    )
    assert found.alarm
    assert min(found.shifts, key=found.shifts.__getitem__) == "brightness"
    assert (found.reference, found.window) == (60, 40)


def test_frames_of_one_part_are_one_observation() -> None:
    random = np.random.default_rng(2)
    reference = _images(random, 40)
    one = _images(random, 6, brightness=1.0)
    frames = pd.concat([one] * 20, ignore_index=True)
    once = find_drift(reference, one, rate=0.05, checks=1, seed=0)
    again = find_drift(reference, frames, rate=0.05, checks=1, seed=0)
    assert again.window == 6
    assert again.p_value == pytest.approx(once.p_value)


def test_too_few_groups_are_an_error_that_counts_them() -> None:
    random = np.random.default_rng(3)
    with pytest.raises(DataError, match="40 held-out and 4 new groups"):
        find_drift(_images(random, 40), _images(random, 4), rate=0.05, checks=1, seed=0)
