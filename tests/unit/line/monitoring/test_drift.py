import numpy as np
import pandas as pd
import pytest

from reconpatch.errors import DataError
from reconpatch.line.monitoring.drift import find_drift


def _images(random: np.random.Generator, count: int, *, darker: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "group": [str(i) for i in range(count)],
            "score": random.gamma(4, 1, count),
            "is_anomalous": random.random(count) < 0.02,
            "brightness": random.normal(120 - 10 * darker, 10, count),
            "contrast": random.normal(30, 3, count),
            "sharpness": random.lognormal(5, 0.3, count),
            "embedding": list(random.normal(0, 1, (count, 12)).astype(np.float16)),
        }
    )


def test_false_alarms_are_as_rare_as_asked_for_over_a_stream_of_checks() -> None:
    random = np.random.default_rng(0)
    alarms = 0
    for stream in range(50):
        reference, new = _images(random, 60), _images(random, 60)
        alarms += any(
            find_drift(reference, new[:count], level=0.05 / 3, seed=stream).alarm for count in (20, 40, 60)
        )
    assert alarms <= 7


def test_a_shift_is_found_and_named() -> None:
    random = np.random.default_rng(1)
    found = find_drift(_images(random, 60), _images(random, 40, darker=1.5), level=0.05 / 168, seed=0)
    assert found.alarm
    assert found.shifts["brightness"] == min(found.shifts.values())
    assert (found.reference, found.window) == (60, 40)


def test_a_few_high_scores_among_many_usual_ones_are_found_where_the_mean_score_sees_little() -> None:
    random = np.random.default_rng(2)
    reference, new = _images(random, 300), _images(random, 200)
    new.loc[:11, "score"] += 15
    found = find_drift(reference, new, level=0.01, seed=0)
    assert found.alarm
    assert found.shifts["highest scores"] < found.shifts["score"] / 10


def test_images_that_are_odd_together_are_found_where_the_mean_embedding_tells_nothing() -> None:
    random = np.random.default_rng(3)
    reference, new = _images(random, 300), _images(random, 200)
    for place in range(40):
        new.at[place, "embedding"] = new.at[place, "embedding"] + np.float16(6) * random.choice([-1, 1], 12)
        new.at[place, "score"] += 6
    found = find_drift(reference, new, level=0.01, seed=0)
    assert found.alarm
    assert found.shifts["oddest images"] == min(found.shifts.values())
    assert found.shifts["embedding"] > 0.05


def test_a_change_of_the_latest_images_is_found_among_many_that_are_as_ever() -> None:
    random = np.random.default_rng(7)
    reference = _images(random, 25)
    changed = pd.concat([_images(random, 200), _images(random, 30, darker=2)], ignore_index=True)
    changed["group"] = [str(i) for i in range(len(changed))]
    found = find_drift(reference, changed, level=0.001, seed=0, latest=30)
    assert found.alarm
    assert min(found.shifts, key=found.shifts.__getitem__) == "brightness, latest"
    assert (found.reference, found.window) == (25, 230)
    assert not find_drift(reference, changed, level=0.001, seed=0).alarm


def test_frames_of_one_part_are_one_observation() -> None:
    random = np.random.default_rng(4)
    reference, one = _images(random, 40), _images(random, 6, darker=1.0)
    again = find_drift(reference, pd.concat([one] * 20, ignore_index=True), level=0.05, seed=0)
    assert again.window == 6
    once = find_drift(reference, one, level=0.05, seed=0)
    assert again.p_value == pytest.approx(once.p_value, abs=0.05)


def test_an_uncalibrated_detector_has_no_share_of_rejects() -> None:
    random = np.random.default_rng(5)
    reference, new = _images(random, 30), _images(random, 30)
    new["is_anomalous"] = None
    assert "rejects" not in find_drift(reference, new, level=0.05, seed=0).shifts
    assert "rejects" in find_drift(reference, _images(random, 30), level=0.05, seed=0).shifts


def test_images_of_unknown_looks_are_left_out_and_hide_no_shift() -> None:
    random = np.random.default_rng(8)
    reference, new = _images(random, 40), _images(random, 40, darker=3)
    reference.loc[3, "brightness"] = np.nan
    new.loc[[0, 5], "sharpness"] = np.nan
    found = find_drift(reference, new, level=0.001, seed=0)
    assert found.alarm
    assert found.shifts["brightness"] == min(found.shifts.values())
    assert (found.reference, found.window) == (39, 38)
    # Another image of the group, whose looks are known, stands for it.
    twice = pd.concat([reference, reference.iloc[[3]].assign(brightness=120.0)], ignore_index=True)
    assert find_drift(twice, new, level=0.001, seed=0).reference == 40


def test_what_cannot_be_compared_is_an_error_that_says_why() -> None:
    random = np.random.default_rng(6)
    reference = _images(random, 40)
    with pytest.raises(DataError, match="40 held-out and 4 new groups"):
        find_drift(reference, _images(random, 4), level=0.05, seed=0)
    other = _images(random, 40)
    other["embedding"] = [one[:5] for one in other["embedding"]]
    with pytest.raises(DataError, match=r"embeddings of \[5, 12\] numbers"):
        find_drift(reference, other, level=0.05, seed=0)
    with pytest.raises(DataError, match="0 held-out and 40 new groups of known brightness"):
        find_drift(reference.assign(contrast=np.nan), _images(random, 40), level=0.05, seed=0)
    other = _images(random, 40)
    other.loc[7, "score"] = np.nan
    with pytest.raises(DataError, match=r"1 image\(s\) with a score or an embedding that is not finite"):
        find_drift(reference, other, level=0.05, seed=0)
