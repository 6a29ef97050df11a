"""Predictions on their way into the log: the image's statistics are measured, rows gathered and written."""

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.file_listing import printable
from reconpatch.data.groups import group_of_image
from reconpatch.data.image_statistics import ImageStatistics, measure_image_statistics
from reconpatch.data.images import ImageProbe, probe_image
from reconpatch.errors import DataError, SettingsError
from reconpatch.line.monitoring.prediction_log import LoggedPrediction, split_rows, write_part
from reconpatch.prediction import Prediction

_LOG = logging.getLogger(__name__)
_ROWS = 1_000  # a file, at most
_SECONDS = 60.0  # what a killed process loses, at most
_KEPT_ROWS = 20_000  # while the log cannot be written
_WAITING_BYTES = 256 << 20  # of images that wait to be measured


@dataclass(frozen=True)
class Subject:
    """What was predicted about, and by whom.

    Attributes:
        category: what the detector was served as.
        model_version: as `LoggedPrediction`.
        image: name for people.
        group: images that share it are one observation; an image of its own is named by its content.
    """

    category: str
    model_version: str
    image: str
    group: str


def make_row(
    subject: Subject, prediction: Prediction, statistics: ImageStatistics, when: datetime
) -> LoggedPrediction:
    """A row of the log."""
    return LoggedPrediction(
        when,
        subject.category,
        subject.model_version,
        subject.image,
        subject.group,
        prediction.score,
        prediction.is_anomalous,
        prediction.band,
        prediction.false_reject_probability,
        statistics.brightness,
        statistics.contrast,
        statistics.sharpness,
        prediction.embedding,
    )


def row_of_file(
    prediction: Prediction, probe: ImageProbe, category: str, model_version: str, groups: str | None
) -> LoggedPrediction:
    """A row of the log of a file that was scored just now.

    Args:
        prediction: of the file.
        probe: what the file looked like.
        category: what the detector is known as.
        model_version: as `LoggedPrediction`.
        groups: the detector's ``data.group_pattern``.

    Raises:
        DataError: the probe has a problem.
    """
    path = printable(str(prediction.path))
    if probe.sha256 is None or probe.problem is not None:
        raise DataError(f"{path}: {probe.problem}; it was there when it was scored")
    statistics = ImageStatistics(
        probe.perceptual_hash,
        *(float(value or 0.0) for value in (probe.brightness, probe.contrast, probe.sharpness)),
    )
    subject = Subject(category, model_version, path, group_of_image(path, probe.sha256, groups))
    return make_row(subject, prediction, statistics, datetime.now(UTC))


def logged(
    predictions: Iterable[Prediction], log: Path, category: str, model_version: str, groups: str | None
) -> Iterator[Prediction]:
    """The same predictions of image files, each logged on the way; the last ones when the iteration ends.

    Args:
        predictions: of files.
        log: the log's folder.
        category: what the detector is known as.
        model_version: as `LoggedPrediction`.
        groups: the detector's ``data.group_pattern``.

    Raises:
        DataError: the log cannot be written, or an image can no longer be read.
    """
    with LogBuffer(log) as buffer:
        for prediction in predictions:
            path = str(prediction.path)
            buffer.add(row_of_file(prediction, probe_image(Path(path)), category, model_version, groups))
            yield prediction


class LogBuffer:
    """Rows that are written many at a time, and at the end of the block."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._rows: list[LoggedPrediction] = []
        self._since = time.monotonic()

    def __enter__(self) -> "LogBuffer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def add(self, row: LoggedPrediction) -> None:
        """Keep a row, and write those kept when there are many or they are old.

        Raises:
            DataError: the log cannot be written; the rows are kept.
        """
        self._rows.append(row)
        if self.is_due:
            self.flush()

    @property
    def is_due(self) -> bool:
        """Whether the rows should be written."""
        return len(self._rows) >= _ROWS or (bool(self._rows) and time.monotonic() - self._since >= _SECONDS)

    def flush(self) -> None:
        """Write the rows kept, each file for itself: one that cannot be written holds up no other.

        Raises:
            DataError: a file cannot be written; the latest rows without a file are kept.
        """
        self._since = time.monotonic()
        refused: list[LoggedPrediction] = []
        problem: DataError | None = None
        for part in split_rows(self._rows):
            try:
                write_part(self._log, part)
            except DataError as error:
                refused += part
                problem = problem or error
        self._rows = sorted(refused, key=lambda row: row.time)[-_KEPT_ROWS:]
        if problem is not None:
            raise problem


@dataclass(frozen=True)
class _Waiting:
    subject: Subject
    pattern: str | None
    prediction: Prediction
    pixels: NDArray[np.uint8]
    when: datetime


class Recorder:
    """Logs from a thread of its own: who calls it neither waits nor fails.

    Of images that come faster than they can be measured some are left out; a warning says how many.
    """

    def __init__(self, log: Path) -> None:
        """Start the thread; `close` ends it."""
        self._buffer = LogBuffer(log)
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bytes = 0
        self._left_out = 0
        self._given_up: set[str] = set()  # patterns that took too long once
        self._thread = threading.Thread(target=self._work, name="reconpatch-log", daemon=True)
        self._thread.start()

    def record(
        self, subject: Subject, prediction: Prediction, pixels: NDArray[np.uint8], pattern: str | None = None
    ) -> None:
        """Log a prediction of (H, W, 3) uint8 pixels, soon.

        Args:
            subject: its group is of an image of its own.
            prediction: of the pixels.
            pixels: what was scored.
            pattern: the detector's ``data.group_pattern``, searched in the image's name by the thread; after
                a pattern took too long once, each image is a group of its own, and a warning says so.
        """
        with self._lock:
            if self._bytes and self._bytes + pixels.nbytes > _WAITING_BYTES:
                self._left_out += 1
                return
            self._bytes += pixels.nbytes
        self._queue.put(_Waiting(subject, pattern, prediction, pixels, datetime.now(UTC)))

    def close(self) -> None:
        """Write what waits, then end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            try:
                item = self._queue.get(timeout=_SECONDS / 4)
                going = item is not None
            except queue.Empty:
                item = None
            try:
                if item is not None:
                    statistics = measure_image_statistics(Image.fromarray(item.pixels))
                    self._buffer.add(make_row(self._grouped(item), item.prediction, statistics, item.when))
                elif self._buffer.is_due or not going:
                    self._buffer.flush()
            except DataError as error:
                _LOG.warning("predictions are not logged: %s", error)
            except Exception:  # one image must not end the log of the others
                _LOG.exception("a prediction could not be logged")
            with self._lock:
                self._bytes -= item.pixels.nbytes if item is not None else 0
                left_out, self._left_out = self._left_out, 0
            if left_out:
                _LOG.warning("%d predictions were left out of the log: images come too fast", left_out)

    def _grouped(self, item: _Waiting) -> Subject:
        if item.pattern is None or item.pattern in self._given_up:
            return item.subject
        try:
            group = group_of_image(item.subject.image, item.subject.group, item.pattern)
        except SettingsError as error:
            self._given_up.add(item.pattern)
            _LOG.warning("%s; in the log each image is a group of its own from now on", error)
            return item.subject
        return replace(item.subject, group=group)
