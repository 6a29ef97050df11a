"""Compare the predictions of a category's champion with what it said of its held-out images.

No stage: it looks at what was logged since, and keeps what it found under drift/<dataset>/<category>/.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from reconpatch.errors import DataError, ReConPatchError
from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.line.monitoring.drift import find_drift
from reconpatch.line.monitoring.drift_checks import (
    DriftCheck,
    append_drift_check,
    next_level,
    read_drift_checks,
)
from reconpatch.line.monitoring.drift_plots import drift_figure
from reconpatch.line.monitoring.prediction_log import read_predictions
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import atomic_file, write_json
from reconpatch.storage.detector_config import check_files, read_config
from reconpatch.storage.detector_folder import read_calibration
from reconpatch.storage.file_locks import file_lock
from tasks.registry.champion import Champion, champion_folder, find_champion
from tasks.registry.mlflow_store import mlflow_errors, open_client

FOLDER = "drift"
ALARM_TAG = "drift_alarm"  # of a version: its last alarm
_SHOWN = 200  # checks before this one in its picture
# What the clocks of the machines that log, check and register may lie apart: a prediction further ahead is of
# times to come, and none of a version is further before it.
_AHEAD = timedelta(minutes=5)
_BEFORE = timedelta(days=1)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """What came of one category.

    Attributes:
        category: whose.
        note: the same for people.
        check: the check; None where there was nothing to check.
        picture: its plots.
    """

    category: str
    note: str
    check: DriftCheck | None = None
    picture: Path | None = None

    def __str__(self) -> str:
        return f"{self.category}: {self.note}"


def check_drift(
    settings: Settings,
    category: str,
    project: Path,
    *,
    now: datetime,
    announce: Callable[[Checked], None] = lambda _: None,
) -> Checked:
    """Check the images that were logged since the last check, where there are enough.

    After an alarm only later images are compared: what drifted on alarms again, what was mended does not.

    Args:
        settings: section ``monitor``, ``seed`` and the pipeline's names.
        category: its name.
        project: root of the project.
        now: time with its zone.
        announce: told of an alarm before it is noted down, so once or (after a kill in between) twice.

    Raises:
        DataError: the champion keeps no held-out images to compare with, or the log cannot be read.
        ReConPatchError: the registry cannot be asked.
    """
    log = settings.monitor.log
    if log is None:
        return Checked(category, "not checked (monitor.log: null)")
    if not (project / log).is_dir():
        return Checked(category, f"nothing to check: no prediction is logged in {log}")
    champion = find_champion(settings, project, category)
    if champion is None:
        return Checked(category, "nothing to check: there is no champion yet")
    folder = project / FOLDER / settings.pipeline.dataset / category
    with file_lock(folder / ".lock"):
        return _check(settings, champion, project, folder, now, announce)


def _check(
    settings: Settings,
    champion: Champion,
    project: Path,
    folder: Path,
    now: datetime,
    announce: Callable[[Checked], None],
) -> Checked:
    category = champion.category
    checks = [check for check in read_drift_checks(folder / "looks.json") if check.time <= now + _AHEAD]
    version = f"{champion.model}/{champion.version}"
    own = [check for check in checks if check.model_version == version]
    alarm = next((_end(check) for check in reversed(own) if check.alarm), None)
    rows, aside = _rows(settings, champion, project, alarm, now)
    fresh = rows[rows["time"] > _end(own[-1])] if own else rows
    count, needed = fresh["group"].nunique(), settings.monitor.new_images
    if count < needed:
        return Checked(
            category,
            f"nothing to check: {count} new images of version {champion.version}, {needed} needed{aside}",
        )
    level = next_level(settings.monitor.rate, checks, rows["time"].iloc[0].to_pydatetime(), now)
    if level is None:
        return Checked(category, f"nothing to check: the last check was less than half an hour ago{aside}")
    reference, threshold = _reference(settings, champion, project)
    seed = settings.seed + len(checks)
    found = find_drift(reference, rows, level=level, seed=seed, latest=len(fresh))
    rejects = None if rows["is_anomalous"].isna().any() else float(rows["is_anomalous"].mean())
    since, until = (rows["time"].iloc[place].to_pydatetime() for place in (0, -1))
    check = DriftCheck(
        now, since, until, version, found.reference, found.window, level, found.p_value, found.shifts, rejects
    )
    name = "alarm" if check.alarm else "latest"
    picture = folder / f"{name}-{now:%Y%m%dT%H%M%S}.png" if check.alarm else folder / "latest.png"
    title = f"{settings.pipeline.dataset} {category}, version {champion.version}"
    figure = drift_figure(reference, rows, [*checks[-_SHOWN:], check], threshold, title)
    with atomic_file(picture) as temporary:
        temporary.write_bytes(png_bytes(figure))
    checked = Checked(category, _told(check, champion.version) + aside, check, picture)
    if check.alarm:
        announce(checked)
        _leave_traces(checked, check, champion, settings, project)
    append_drift_check(folder / "looks.json", check)
    return checked


def _leave_traces(
    checked: Checked, check: DriftCheck, champion: Champion, settings: Settings, project: Path
) -> None:
    """Of an alarm, where people look: the log, a file beside its picture, a tag of the version in MLflow."""
    assert checked.picture is not None  # noqa: S101 (for the reader: an alarm has one)
    _LOG.warning("drift alarm: %s; picture: %s", checked, checked.picture)
    facts = {"note": checked.note, "model_version": check.model_version, "moved": check.moved}
    facts |= {
        "time": check.time.isoformat(),
        "since": check.since.isoformat(),
        "until": check.until.isoformat(),
    }
    numbers = {
        "p_value": check.p_value,
        "level": check.level,
        "window": check.window,
        "rejects": check.rejects,
    }
    write_json(checked.picture.with_suffix(".json"), facts | numbers)
    try:
        with mlflow_errors(f"the tag {ALARM_TAG} of {check.model_version}"):
            open_client(settings, project).set_model_version_tag(
                champion.model,
                champion.version,
                ALARM_TAG,
                f"{check.time:%Y-%m-%d %H:%M %Z}: {checked.note}",
            )
    except ReConPatchError as error:  # the alarm is given all the same
        _LOG.warning("%s", error)


def _rows(
    settings: Settings, champion: Champion, project: Path, alarm: datetime | None, now: datetime
) -> tuple[pd.DataFrame, str]:
    """The latest predictions of a champion since an alarm, and what is said of those left out.

    Left out are those of times to come, which a clock that was wrong has dated: compared, they would be the
    latest for as long as that time has not come, and no image would be new.
    """
    assert settings.monitor.log is not None  # noqa: S101 (for the reader: check_drift says so)
    log, window = project / settings.monitor.log, settings.monitor.window
    since = alarm
    # Of a version that has logged little, all that was logged before it would be read too.
    if champion.created is not None and champion.created <= now.timestamp():
        first = datetime.fromtimestamp(champion.created, UTC) - _BEFORE
        since = first if alarm is None else max(alarm, first)

    def read(since: datetime | None, most: int | None) -> pd.DataFrame:
        version = f"{champion.model}/{champion.version}"
        return read_predictions(log, model_version=version, since=since, most=most)

    rows, limit = read(since, window), now + _AHEAD
    if rows.empty or rows["time"].iloc[-1] <= limit:
        return rows, ""
    ahead = read(limit, None)
    rows = read(since, window + len(ahead))
    told = (
        f"; {len(ahead)} predictions are left out, dated in times to come (up to "
        f"{ahead['time'].iloc[-1]:%Y-%m-%d %H:%M}): set the clock of the machine that logs"
    )
    return rows[rows["time"] <= limit].tail(window).reset_index(drop=True), told


def _end(check: DriftCheck) -> datetime:
    """Where a check ended; one whose last image was of times to come compared what was there then."""
    return min(check.until, check.time + _AHEAD)


def _told(check: DriftCheck, version: str) -> str:
    found = f"drifted, most of all {check.moved}" if check.alarm else "no drift"
    return (
        f"{found} (p = {check.p_value:.2g}, level {check.level:.2g}; {check.window} new groups of version "
        f"{version} against {check.reference} held out)"
    )


def _reference(settings: Settings, champion: Champion, project: Path) -> tuple[pd.DataFrame, float]:
    """The held-out images as the champion scored them, and its threshold."""
    with champion_folder(champion, settings, project) as model:
        config = read_config(model)
        check_files(model, config)
        calibration = read_calibration(model, config) if "calibration.json" in config["files"] else None
    what = f"{champion.model}, version {champion.version}"
    if calibration is None or calibration.held_out is None:
        raise DataError(
            f"{what}: keeps no held-out images that it scored itself, so nothing can be compared; "
            "fit it with calibrate.calibration: holdout, or switch the checks off with monitor.log: null"
        )
    table = calibration.held_out
    return table.assign(
        is_anomalous=table["score"] > calibration.threshold.value
    ), calibration.threshold.value
