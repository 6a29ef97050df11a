import logging
from concurrent.futures import ThreadPoolExecutor

from reconpatch import progress


def test_items_pass_unchanged():
    assert list(progress.track(range(5), "work")) == list(range(5))
    assert list(progress.track(iter("abc"), "work", total=3)) == ["a", "b", "c"]


def test_a_log_line_says_how_much_is_left(monkeypatch, caplog):
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="reconpatch.progress"):
        list(progress.track(range(3), "coreset"))
    assert "coreset: 1 of 3\n" in caplog.text  # the first foretells nothing
    assert "coreset: 2 of 3, about" in caplog.text


def test_threads_that_work_side_by_side_log_lines_instead_of_drawing_over_each_other(monkeypatch):
    drawn = []
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_bar", lambda items, *_: drawn.append("bar") or iter(items))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: list(progress.track(range(3), "train"))).result() == [0, 1, 2]
    assert drawn == []
    assert list(progress.track(range(3), "train")) == [0, 1, 2]
    assert drawn == ["bar"]
