"""What the policy throws away goes, and nothing that a champion of any time or a pinned version needs."""

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from finished_runs import PipelineRun, fit_detector, write_images

from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import extract_features
from reconpatch.line.monitoring.prediction_log import LoggedPrediction, read_predictions, write_predictions
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import parse_settings
from tasks.operations.housekeeping import find_removals, remove
from tasks.registry.promotion import promote_version
from tasks.registry.register import register_run

NAME = "reconpatch-tiny-nut"
_POLICY = ("housekeeping.keep_versions=1", "housekeeping.version_days=0", "monitor.window=25")


@pytest.fixture
def run(mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    """Five versions: 1 was champion, 2 is, 3 is pinned, 5 is the newest."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    images = write_images(tmp_path / "images" / "nut")
    run = PipelineRun(tmp_path, detector=fit_detector(images, tmp_path / "detector"), images=images)
    for number in range(5):
        register_run(run.settings(), [run.finish(image_auroc=0.9 + number / 100)])
    promote_version(NAME, "2", "better", settings=run.settings(), project=run.root)
    run.client.set_model_version_tag(NAME, "3", "pinned", "true")
    return run


def _predicted(version: str, when: datetime) -> LoggedPrediction:
    embedding = np.zeros(4, np.float16)
    return LoggedPrediction(
        when, "nut", f"{NAME}/{version}", "a.png", "a", 1.0, False, "accept", 0.5, 90.0, 9.0, 9.0, embedding
    )


def _age(path: Path) -> None:
    old = time.time() - 1000 * 24 * 3600
    for each in [path, *path.rglob("*")]:
        os.utime(each, (old, old))


def _versions(run: PipelineRun) -> set[str]:
    return {str(one.version) for one in run.client.search_model_versions(f"name = '{NAME}'")}


@pytest.mark.slow
def test_nothing_that_a_champion_or_a_pinned_version_needs_goes(run: PipelineRun) -> None:
    settings, root = run.settings(*_POLICY), run.root
    assert find_removals(run.settings(), root) == []  # nothing is old
    cache = FeatureCache(root / settings.pipeline.cache)
    config = json.loads((run.detector / "config.json").read_text())
    features = parse_settings(config["settings"], source="").features
    extractor = PatchExtractor(features, choose_device("cpu"))
    known = extract_features(sorted((run.images / "train" / "good").iterdir()), extractor, cache)
    cache.put("f" * 64, np.zeros((4, 3), np.float16))
    _age(root / settings.pipeline.cache)
    cache.put("e" * 64, np.zeros((4, 3), np.float16))
    for name in ("old", "young"):
        (root / "runs" / name / "tiny").mkdir(parents=True)
        (root / "runs" / name / "tiny" / "x").write_bytes(b"x")
    _age(root / "runs" / "old")
    (root / ".cache" / "chunks").mkdir()
    (root / ".cache" / "chunks" / "c").write_bytes(b"x")
    _age(root / ".cache" / "chunks")
    now = datetime.now(UTC)
    for version, days in (("2", 800), ("2", 1), ("1", 900), ("1", 700), ("4", 600), ("4", 2)):
        rows = [_predicted(version, now - timedelta(days=days))] * 25
        write_predictions(root / "predictions", rows)
    drift = root / "drift" / "tiny" / "nut"
    drift.mkdir(parents=True)
    for name in ("alarm-1.png", "looks.json", "latest.png"):
        (drift / name).write_bytes(b"x")
    _age(drift)
    (drift / "alarm-2.png").write_bytes(b"x")
    log = {days: f"predictions/nut/{now - timedelta(days=days):%Y-%m-%d}" for days in (900, 800, 700, 600)}

    before = sorted(root.rglob("*"))
    found = find_removals(settings, root)
    assert {(one.kind, one.what) for one in found} == {
        ("version", f"{NAME}/4"),
        ("run", "runs/old"),
        ("features", "1 blocks"),
        ("chunks", "1 chunks"),
        ("predictions", log[900]),  # the champion before has a later one, as the champion of today
        ("predictions", log[800]),
        ("predictions", log[600]),
        ("alarms", "1 files"),
    }
    assert [path for path in sorted(root.rglob("*")) if "mlflow.db" not in path.name] == [
        path for path in before if "mlflow.db" not in path.name
    ]
    assert _versions(run) == {"1", "2", "3", "4", "5"}

    run_4 = run.client.get_model_version(NAME, "4").run_id
    assert remove(settings, root) == found
    assert _versions(run) == {"1", "2", "3", "5"}
    assert run.client.get_run(run_4).info.lifecycle_stage == "deleted"
    assert {path.name for path in (root / "runs").iterdir()} == {"young"}
    assert all(entry in cache for entry in known.entries)
    assert "f" * 64 not in cache
    assert "e" * 64 in cache
    assert {path.name for path in drift.iterdir()} == {"alarm-2.png", "looks.json", "latest.png"}
    assert len(read_predictions(root / "predictions", model_version=f"{NAME}/2")) == 25
    assert (root / log[700]).is_dir()
    assert find_removals(settings, root) == []
