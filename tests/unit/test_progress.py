import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import SimpleNamespace

from reconpatch import progress


def test_items_pass_unchanged():
    assert list(progress.track(range(5), "work")) == list(range(5))
    assert list(progress.track(iter("abc"), "work", total=3)) == ["a", "b", "c"]


def test_a_log_line_says_how_much_is_left(monkeypatch, caplog):
    clock = count(step=12)  # twelve seconds an item
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level(logging.INFO, logger="reconpatch.progress"):
        list(progress.track(range(4), "coreset"))
    lines = [record.message for record in caplog.records]
    # The first item predicts nothing.
    assert lines == [
        "coreset: 1 of 4",
        "coreset: 2 of 4, about 36 s left",
        "coreset: 3 of 4, about 16 s left",
    ]


def test_there_is_a_line_every_ten_seconds(monkeypatch, caplog):
    clock = count(step=4)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level(logging.INFO, logger="reconpatch.progress"):
        list(progress.track(range(10), "coreset"))
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        f"coreset: {done} of 10" for done in (2, 5, 8)
    ]


def test_threads_that_work_side_by_side_log_lines_instead_of_drawing_over_each_other(monkeypatch):
    drawn = []
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_bar", lambda items, *_: drawn.append("bar") or iter(items))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(progress.track(range(3), "train"))).result() == [0, 1, 2]
    assert drawn == []
    assert list(progress.track(range(3), "train")) == [0, 1, 2]
    assert drawn == ["bar"]
