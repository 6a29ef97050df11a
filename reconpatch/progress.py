"""Progress with an ETA: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LOG = logging.getLogger(__name__)
_LINE_EVERY_SECONDS = 10.0
_T = TypeVar("_T")


def track(items: Iterable[_T], description: str, total: int | None = None) -> Iterator[_T]:
    """Yield ``items`` unchanged while showing how far they are and when they will be through.

    On a terminal a bar is drawn on standard error; elsewhere (logs, services, threads that work side by
    side and would draw over each other) one line is logged every ten seconds, so that a nightly log stays
    short and still shows that work goes on.

    Args:
        items: what to go through.
        description: what the work is, for people, such as ``"coreset"``.
        total: number of items, when ``items`` has no ``len``.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    alone = threading.current_thread() is threading.main_thread()
    bar = alone and sys.stderr.isatty()
    return _bar(items, description, total) if bar else _lines(items, description, total)


def _bar(items: Iterable[_T], description: str, total: int | None) -> Iterator[_T]:
    columns = (
        TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield from progress.track(items, total=total, description=description)


def _lines(items: Iterable[_T], description: str, total: int | None) -> Iterator[_T]:
    start = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - last >= _LINE_EVERY_SECONDS:
            last = now
            # The first item carries what comes once, or a whole batch; it foretells nothing.
            left = f", about {(now - start) / done * (total - done):.0f} s left" if total and done > 1 else ""
            _LOG.info("%s: %d of %s%s", description, done, total if total else "?", left)
        yield item
