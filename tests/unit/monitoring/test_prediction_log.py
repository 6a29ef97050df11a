"""The prediction log: whole files by category and day, written by many at once, read by version."""

import multiprocessing
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from log_rows import row

from reconpatch.errors import DataError
from reconpatch.monitoring.prediction_log import read_predictions, write_predictions

VERSION = "reconpatch-demo-nut/3"
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


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
    with pytest.raises(DataError, match=r"broken\.parquet: is no part of a prediction log"):
        read_predictions(tmp_path, model_version=VERSION)


def test_no_log_is_an_empty_one(tmp_path) -> None:
    assert len(read_predictions(tmp_path / "none", model_version=VERSION)) == 0


def test_an_unwritable_log_names_the_file(tmp_path) -> None:
    (tmp_path / "nut").write_text("a file")
    with pytest.raises(DataError, match=r"nut/2026-11-25/.*parquet: cannot be written"):
        write_predictions(tmp_path, [row()])


def _write_some(log, writer) -> None:
    for number in range(20):
        write_predictions(log, [row(20 * writer + number)])


def test_writers_at_the_same_time_lose_nothing_and_readers_see_whole_files(tmp_path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_some, args=(tmp_path, writer)) for writer in range(3)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        read_predictions(tmp_path, model_version=VERSION)
    assert sorted(read_predictions(tmp_path, model_version=VERSION)["score"]) == list(range(60))
