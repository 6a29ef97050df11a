"""A category's checks for drift: when there is one, what it sees, what it says."""

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow.exceptions import MlflowException

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.calibration.held_out_images import held_out_table
from reconpatch.errors import DataError
from reconpatch.line.monitoring import prediction_log
from reconpatch.line.monitoring.drift_checks import append_drift_check, read_drift_checks
from reconpatch.line.monitoring.prediction_log import LoggedPrediction, write_predictions
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import sha256_file, write_json
from reconpatch.storage.detector_config import CONFIG, SCHEMA_VERSION
from reconpatch.storage.detector_folder import write_calibration
from tasks.operations import drift_monitor
from tasks.registry.champion import Champion

SETTINGS = load_settings(None, ["pipeline.dataset=demo"])
NUT = Champion("reconpatch-demo-nut", "3", "nut", "lite0", False, "0", "0")
MONDAY = datetime(2026, 11, 23, 6, tzinfo=UTC)


def _seen(random: np.random.Generator, count: int, darker: float) -> list[tuple]:
    return [
        (random.gamma(9, 1), random.normal(120 - 12 * darker, 8), random.normal(30, 3), random.gamma(9, 30),
         random.normal(0, 1, 10).astype(np.float16))
        for _ in range(count)
    ]  # fmt: skip


def _champion_folder(folder: Path, *, held_out: bool = True) -> None:
    """What the check reads of a detector."""
    random = np.random.default_rng(0)
    scores, *statistics, embeddings = map(np.array, zip(*_seen(random, 60, 0), strict=True))
    digests = [f"{i:064}" for i in range(60)]
    found = calibrate_scores(scores, random.random(300), scores)
    if held_out:
        known = dict(zip(digests, zip(*statistics, strict=True), strict=True))
        table = held_out_table(digests, digests, scores, embeddings, known)
        object.__setattr__(found, "held_out", table)
    folder.mkdir()
    files = {name: sha256_file(folder / name) for name in write_calibration(folder, found)}
    for name in ("bank.safetensors", "training_set.json"):
        (folder / name).write_text(name)
        files[name] = sha256_file(folder / name)
    config = {
        "schema_version": SCHEMA_VERSION,
        "kind": "single",
        "settings": {},
        "backbone": {"name": "none", "weights_sha256": "0" * 64, "weights_source": "test"},
        "training_set_sha256": "0" * 64,
        "n_train": 0,
        "files": files,
    }
    write_json(folder / CONFIG, config)


def log(project: Path, count: int, when: datetime, *, darker: float = 0.0, version: str = "3") -> None:
    random = np.random.default_rng(int(when.timestamp()))
    rows = [
        LoggedPrediction(
            when + timedelta(seconds=i), "nut", f"reconpatch-demo-nut/{version}", f"{i}.png", f"{when}-{i}",
            score, bool(score > 20), "accept", 0.5, brightness, contrast, sharpness, embedding,
        )
        for i, (score, brightness, contrast, sharpness, embedding) in enumerate(_seen(random, count, darker))
    ]  # fmt: skip
    write_predictions(project / "predictions", rows)


class _Registry:
    def __init__(self, tags: dict) -> None:
        self._tags = tags

    def set_model_version_tag(self, model: str, version: str, key: str, value: str) -> None:
        self._tags[model, version, key] = value


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Checks the category nut of a project at a given time; alarms are noted."""
    _champion_folder(tmp_path / "model")

    @contextmanager
    def folder(*_):
        yield tmp_path / "model"

    monkeypatch.setattr(drift_monitor, "find_champion", lambda *_: NUT)
    monkeypatch.setattr(drift_monitor, "champion_folder", folder)
    tags = {}
    monkeypatch.setattr(drift_monitor, "open_client", lambda *_: _Registry(tags))
    monkeypatch.setattr(drift_monitor, "png_bytes", lambda figure: figure.get_suptitle().encode())
    alarms: list[drift_monitor.Checked] = []

    def run(now: datetime, settings=SETTINGS) -> drift_monitor.Checked:
        return drift_monitor.check_drift(settings, "nut", tmp_path, now=now, announce=alarms.append)

    run.alarms = alarms
    run.tags = tags
    run.project = tmp_path
    return run


def test_without_anything_new_nothing_is_done_and_the_note_says_why(check, monkeypatch) -> None:
    hour = timedelta(hours=1)
    assert "no prediction is logged in predictions" in check(MONDAY).note
    log(check.project, 24, MONDAY)
    assert "24 new images of version 3, 25 needed" in check(MONDAY + hour).note
    log(check.project, 30, MONDAY + hour, version="2")  # another version's say nothing of this one
    assert "24 new images" in check(MONDAY + 2 * hour).note
    log(check.project, 6, MONDAY + 2 * hour)
    first = check(MONDAY + 3 * hour)
    assert first.check is not None
    log(check.project, 30, MONDAY + 3 * hour)
    assert "less than half an hour" in check(MONDAY + 3 * hour + timedelta(minutes=10)).note
    monkeypatch.setattr(drift_monitor, "find_champion", lambda *_: None)
    assert "no champion yet" in check(MONDAY).note
    assert "monitor.log: null" in check(MONDAY, load_settings(None, ["monitor.log=null"])).note


def test_nominal_images_raise_no_alarm_and_darker_ones_do_once_until_they_go_on(check) -> None:
    day = timedelta(days=1)
    log(check.project, 60, MONDAY)
    quiet = check(MONDAY + day)
    assert quiet.note.startswith("no drift")
    assert quiet.picture.name == "latest.png"
    assert quiet.check.level == pytest.approx(0.05 / 7)
    assert (quiet.check.reference, quiet.check.window) == (60, 60)
    log(check.project, 60, MONDAY + day, darker=2)
    alarm = check(MONDAY + 2 * day)
    assert alarm.check.alarm
    assert alarm.check.moved.startswith("brightness")
    assert "drifted, most of all brightness" in alarm.note
    assert [one.category for one in check.alarms] == ["nut"]
    assert alarm.picture.read_bytes().startswith(b"demo nut, version 3: ALARM: brightness")
    log(check.project, 60, MONDAY + 2 * day)  # mended: what alarmed is not compared again
    mended = check(MONDAY + 3 * day)
    assert (mended.check.window, mended.check.alarm) == (60, False)
    checks = read_drift_checks(check.project / "drift/demo/nut/looks.json")
    assert [found.alarm for found in checks] == [False, True, False]
    assert all(found.rejects is not None for found in checks)


def test_an_alarm_is_a_line_of_the_log_a_file_and_a_tag_of_the_version(check, caplog, monkeypatch) -> None:
    day, folder = timedelta(days=1), check.project / "drift/demo/nut"
    log(check.project, 60, MONDAY)
    check(MONDAY + day)
    assert (check.tags, caplog.records, list(folder.glob("alarm-*"))) == ({}, [], [])
    log(check.project, 60, MONDAY + day, darker=2)
    alarm = check(MONDAY + 2 * day)
    (warned,) = caplog.records
    assert (warned.levelname, str(alarm) in warned.getMessage()) == ("WARNING", True)
    kept = json.loads((folder / "alarm-20261125T060000.json").read_text())
    assert (kept["note"], kept["moved"], kept["window"]) == (
        alarm.note,
        alarm.check.moved,
        alarm.check.window,
    )
    assert alarm.picture == folder / "alarm-20261125T060000.png"
    assert check.tags == {("reconpatch-demo-nut", "3", "drift_alarm"): f"2026-11-25 06:00 UTC: {alarm.note}"}

    def away(*_: object) -> None:
        raise MlflowException("the server is away")

    monkeypatch.setattr(drift_monitor, "open_client", away)
    log(check.project, 60, MONDAY + 2 * day, darker=3)
    again = check(MONDAY + 3 * day)
    assert again.check.alarm
    assert len(read_drift_checks(folder / "looks.json")) == 3
    assert "the server is away" in caplog.text


def test_predictions_of_times_to_come_are_told_and_hide_nothing(check) -> None:
    day = timedelta(days=1)
    log(check.project, 60, MONDAY)
    log(check.project, 600, MONDAY + 365 * day)  # more than a window, by a clock that was a year ahead
    quiet = check(MONDAY + day)
    assert (quiet.check.window, quiet.check.alarm) == (60, False)
    assert quiet.check.until < MONDAY + day
    assert "600 predictions are left out, dated in times to come (up to 2027-11-23 06:09)" in quiet.note
    log(check.project, 60, MONDAY + day, darker=2)
    alarm = check(MONDAY + 2 * day)
    assert alarm.check.alarm
    assert "600 predictions are left out" in check(MONDAY + 2 * day + timedelta(hours=1)).note


def test_a_check_that_took_times_to_come_for_its_end_is_got_over(check) -> None:
    day = timedelta(days=1)
    log(check.project, 60, MONDAY)
    found = check(MONDAY + day).check
    path = check.project / "drift/demo/nut/looks.json"
    path.unlink()
    append_drift_check(path, replace(found, until=MONDAY + 365 * day))
    append_drift_check(path, replace(found, time=MONDAY + 300 * day, until=MONDAY + 365 * day))
    log(check.project, 60, MONDAY + day + timedelta(hours=1), darker=2)
    assert check(MONDAY + 2 * day).check.alarm


@pytest.mark.parametrize(("created", "opened"), [(MONDAY, 2), (None, 30), (MONDAY + timedelta(days=99), 30)])
def test_of_a_new_version_only_the_days_since_it_was_registered_are_read(
    check, monkeypatch: pytest.MonkeyPatch, created: datetime | None, opened: int
) -> None:
    for days in range(30):
        log(check.project, 1, MONDAY - timedelta(days=days), version="2")
    read = []
    one = prediction_log._open
    monkeypatch.setattr(prediction_log, "_open", lambda path, *rest: read.append(path) or one(path, *rest))
    monkeypatch.setattr(
        drift_monitor, "find_champion", lambda *_: replace(NUT, created=created and created.timestamp())
    )
    assert "0 new images of version 3" in check(MONDAY + timedelta(hours=1)).note
    assert len(read) == opened


def test_a_killed_check_announces_again_rather_than_never(check, monkeypatch) -> None:
    log(check.project, 60, MONDAY, darker=3)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(drift_monitor, "append_drift_check", killed)
        with pytest.raises(KeyboardInterrupt):
            check(MONDAY + timedelta(days=1))
    again = check(MONDAY + timedelta(days=1))
    assert [one.check.until for one in check.alarms] == [again.check.until] * 2


def test_a_champion_without_held_out_images_is_an_error_that_says_what_to_do(check, tmp_path) -> None:
    import shutil

    shutil.rmtree(tmp_path / "model")
    _champion_folder(tmp_path / "model", held_out=False)
    log(check.project, 60, MONDAY)
    with pytest.raises(DataError, match=r"reconpatch-demo-nut, version 3: keeps no held-out images"):
        check(MONDAY + timedelta(days=1))


def test_scores_rejects_embedding_and_image_statistics_are_compared(check) -> None:
    log(check.project, 60, MONDAY)
    found = check(MONDAY + timedelta(days=1)).check
    assert set(found.shifts) == {
        "score", "highest scores", "oddest images", "rejects", "embedding",
        "brightness", "contrast", "sharpness",
    }  # fmt: skip
