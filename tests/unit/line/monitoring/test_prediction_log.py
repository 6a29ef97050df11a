"""The prediction log: whole files by category and day, written by many at once, read by version."""

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest
from forked import forked
from log_rows import row

from reconpatch.errors import DataError
from reconpatch.line.monitoring import prediction_log
from reconpatch.line.monitoring.prediction_log import old_days, read_predictions, write_predictions

VERSION = "reconpatch-demo-nut/3"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TODAY = NOON.date() + timedelta(days=4)


def test_rows_come_back_as_they_were_in_the_order_of_their_times(tmp_path) -> None:
    uncalibrated = {"is_anomalous": None, "band": None, "false_reject_probability": None}
    rows = [row(1, NOON, is_anomalous=True, band="reject"), row(2, NOON - timedelta(hours=1), **uncalibrated)]
    write_predictions(tmp_path, rows)
    found = read_predictions(tmp_path, model_version=VERSION)
    assert list(found["image"]) == ["2.png", "1.png"]
    assert list(found["is_anomalous"]) == [None, True]
    assert found["time"][1] == NOON
    np.testing.assert_array_equal(found["embedding"][0], np.arange(4))


def test_a_folder_a_category_and_in_it_one_a_day_of_utc(tmp_path) -> None:
    early = datetime(2026, 11, 26, 0, 30, tzinfo=UTC).astimezone(tz=None)
    write_predictions(tmp_path, [row(1, NOON), row(2, early), row(3, NOON, category="bolt")])
    folders = sorted(path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.parquet"))
    assert folders == ["bolt/2026-11-25", "nut/2026-11-25", "nut/2026-11-26"]


def test_only_the_asked_version_since_and_most_are_read(tmp_path) -> None:
    times = [NOON + timedelta(days=day) for day in range(3)]
    write_predictions(tmp_path, [row(day, when) for day, when in enumerate(times)])
    write_predictions(tmp_path, [row(9, NOON, model_version="reconpatch-demo-nut/4")])
    assert list(read_predictions(tmp_path, model_version=VERSION)["score"]) == [0, 1, 2]
    assert list(read_predictions(tmp_path, model_version=VERSION, since=times[0])["score"]) == [1, 2]
    assert list(read_predictions(tmp_path, model_version=VERSION, most=1)["score"]) == [2]
    (tmp_path / "nut" / "2026-11-25" / "broken.parquet").write_bytes(b"PAR1")
    # Days that are not needed are not opened.
    assert list(read_predictions(tmp_path, model_version=VERSION, most=2)["score"]) == [1, 2]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"x" * 400 + b"PAR1", None])
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path, caplog, content) -> None:
    write_predictions(tmp_path, [row(0, NOON), row(1, NOON + timedelta(days=1))])
    broken = tmp_path / "nut" / "2026-11-25" / "broken.parquet"
    if content is None:
        (whole,) = broken.parent.glob("*.parquet")
        content = whole.read_bytes()[:-40]
    broken.write_bytes(content)
    assert list(read_predictions(tmp_path, model_version=VERSION)["score"]) == [0, 1]
    assert f"{broken}: is no part of a prediction log" in caplog.text
    broken.unlink()
    broken.symlink_to(broken)
    assert list(read_predictions(tmp_path, model_version=VERSION)["score"]) == [0, 1]


def test_a_disk_that_fails_is_no_damaged_file(tmp_path, monkeypatch) -> None:
    write_predictions(tmp_path, [row(0, NOON)])

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(prediction_log.pq, "read_table", fail)
    with pytest.raises(DataError, match=r"\.parquet: cannot be read .*Input/output error"):
        read_predictions(tmp_path, model_version=VERSION)


def test_a_folder_that_is_named_like_no_day_is_named_and_left_out(tmp_path, caplog) -> None:
    write_predictions(tmp_path, [row(0, NOON)])
    odd = tmp_path / "nut" / "2026-02-30"
    odd.mkdir()
    (tmp_path / "nut" / "2026-02-31").touch()
    assert list(read_predictions(tmp_path, model_version=VERSION)["score"]) == [0]
    assert f"{odd}: is named like no day" in caplog.text
    assert old_days(tmp_path, NOON.date() + timedelta(days=1), versions=(), most=1) == [
        tmp_path / "nut" / "2026-11-25"
    ]


def test_old_days_are_those_without_a_latest_prediction_of_a_version_that_counts(tmp_path) -> None:
    days = [NOON + timedelta(days=day) for day in range(5)]
    write_predictions(tmp_path, [row(day, when) for day, when in enumerate(days[:4])])
    write_predictions(tmp_path, [row(9, when, model_version="reconpatch-demo-nut/2") for when in days])
    write_predictions(tmp_path, [row(0, days[0], category="bolt", model_version="reconpatch-demo-bolt/1")])

    def old(*versions: str, most: int, before=TODAY) -> list[str]:
        found = old_days(tmp_path, before, versions=versions, most=most)
        return [path.relative_to(tmp_path).as_posix() for path in found]

    # The day of yesterday holds the version's latest, the two before it its second and third.
    assert old(VERSION, most=1) == ["bolt/2026-11-25", "nut/2026-11-25", "nut/2026-11-26", "nut/2026-11-27"]
    assert old(VERSION, most=3) == ["bolt/2026-11-25", "nut/2026-11-25"]
    assert old(VERSION, "reconpatch-demo-bolt/1", most=3) == ["nut/2026-11-25"]
    assert old(VERSION, most=1, before=days[1].date()) == ["bolt/2026-11-25", "nut/2026-11-25"]
    kept = read_predictions(tmp_path, model_version=VERSION, most=3)
    for folder in old(VERSION, most=3):
        shutil.rmtree(tmp_path / folder)
    assert read_predictions(tmp_path, model_version=VERSION, most=3).equals(kept)


def test_an_old_day_with_a_damaged_file_is_named_and_stays(tmp_path, caplog) -> None:
    write_predictions(tmp_path, [row(0, NOON), row(1, NOON + timedelta(days=1))])
    (tmp_path / "nut" / "2026-11-25" / "broken.parquet").write_bytes(b"PAR1")
    assert old_days(tmp_path, NOON.date(), versions=(), most=1) == []  # nothing is old, nothing is opened
    found = old_days(tmp_path, NOON.date() + timedelta(days=2), versions=(), most=1)
    assert found == [tmp_path / "nut" / "2026-11-26"]
    assert "broken.parquet: is no part of a prediction log" in caplog.text


def test_no_log_is_an_empty_one(tmp_path) -> None:
    assert old_days(tmp_path / "none", NOON.date(), versions=(), most=1) == []
    assert len(read_predictions(tmp_path / "none", model_version=VERSION)) == 0


def test_an_unwritable_log_names_the_file(tmp_path) -> None:
    (tmp_path / "nut").write_text("a file")
    with pytest.raises(DataError, match=r"nut/2026-11-25/.*parquet: cannot be written"):
        write_predictions(tmp_path, [row()])


def _write_some(log, writer) -> None:
    for number in range(20):
        write_predictions(log, [row(20 * writer + number)])


def test_writers_at_the_same_time_lose_nothing_and_readers_see_whole_files(tmp_path) -> None:
    writers = [forked(partial(_write_some, tmp_path, writer)) for writer in range(3)]
    with ThreadPoolExecutor(3) as pool:
        ends = [pool.submit(ended) for ended in writers]
        while not all(end.done() for end in ends):
            read_predictions(tmp_path, model_version=VERSION)
    assert [end.result() for end in ends] == [0, 0, 0]
    assert sorted(read_predictions(tmp_path, model_version=VERSION)["score"]) == list(range(60))
