"""Checks share the rate of a week by time, and are kept."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from reconpatch.errors import DataError
from reconpatch.line.monitoring.drift_checks import (
    DriftCheck,
    append_drift_check,
    next_level,
    read_drift_checks,
)

START = datetime(2026, 11, 23, tzinfo=UTC)


def check_at(time: datetime, p_value: float = 0.5) -> DriftCheck:
    return DriftCheck(
        time, START, time, "v/1", 40, 100, 0.01, p_value, {"score": 0.4, "embedding": 0.2}, 0.01
    )


@pytest.mark.parametrize("gaps", [[1] * 168, [2, 30, 0.6, 5, 60, 70.4], [168], [400, 0.5]])
def test_the_levels_of_a_week_add_up_to_its_rate_however_its_checks_lie(gaps) -> None:
    checks, now, total = [check_at(START)], START, 0.0
    for gap in gaps:
        now += timedelta(hours=gap)
        total += next_level(0.05, checks, START, now)
        checks.append(check_at(now))
    assert total <= 0.05 * max(1.0, sum(gaps) / 168) + 1e-12


def test_the_first_check_counts_from_the_first_image_and_at_least_an_hour() -> None:
    assert next_level(0.05, [], START, START) == pytest.approx(0.05 / 168)
    assert next_level(0.05, [], START, START + timedelta(days=1)) == pytest.approx(0.05 / 7)
    assert next_level(0.05, [], START, START + timedelta(days=30)) == pytest.approx(0.05)


def test_two_checks_at_once_are_one_too_many() -> None:
    assert next_level(0.05, [check_at(START)], START, START + timedelta(minutes=29)) is None


def test_checks_come_back_as_they_were(tmp_path) -> None:
    assert read_drift_checks(tmp_path / "looks.json") == []
    checks = [check_at(START), check_at(START + timedelta(hours=1), 0.001)]
    for check in checks:
        append_drift_check(tmp_path / "looks.json", check)
    assert read_drift_checks(tmp_path / "looks.json") == checks
    assert [check.alarm for check in checks] == [False, True]
    assert checks[0].moved == "embedding"


def test_a_file_of_an_earlier_release_is_read(tmp_path) -> None:
    when = "2026-11-23T00:00:00+00:00"
    times = {"time": when, "since": when, "until": when}
    numbers = {"reference": 40, "window": 100, "level": 0.01, "p_value": 0.5, "rejects": 0.01}
    row = {**times, **numbers, "model_version": "v/1", "shifts": {"score": 0.4, "embedding": 0.2}}
    (tmp_path / "looks.json").write_text(json.dumps([row]))
    assert read_drift_checks(tmp_path / "looks.json") == [check_at(START)]


def test_a_file_of_something_else_is_named(tmp_path) -> None:
    (tmp_path / "looks.json").write_text('[{"time": 3}]')
    with pytest.raises(DataError, match=r"looks\.json: holds no checks for drift"):
        read_drift_checks(tmp_path / "looks.json")
