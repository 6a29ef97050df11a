"""From a registered champion through logged predictions to a check, nothing replaced."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from finished_runs import PipelineRun
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.integrations.mlflow_uri import download_detector, registered_version
from reconpatch.line.monitoring.prediction_recorder import logged
from tasks.operations.drift_monitor import check_drift
from tasks.registry.register import register_run

PARAMS = {
    "features.image_size": 64,
    "modulation.enabled": False,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.5,
    "threads": 1,
    "device": "cpu",
}


def _images(folder: Path, count: int, brightness: float, seed: int) -> list[Path]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.normal(brightness + random.normal(0, 4), 12, (64, 64, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_the_champions_predictions_are_compared_with_what_it_said_of_its_held_out_images(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nut, project = tmp_path / "nut", tmp_path / "project"
    project.mkdir()
    _images(nut / "train/good", 40, 110, seed=0)
    _images(nut / "test/good", 2, 110, seed=1)
    ReConPatch(params=PARAMS).fit(nut).save(tmp_path / "detector")
    shutil.copy(mlflow_template, project / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    run = PipelineRun(project, tmp_path / "detector", nut)
    (model,) = register_run(run.settings(), [run.finish()])
    run.client.set_registered_model_alias(model.name, "champion", model.version)
    uri = "models:/reconpatch-tiny-nut@champion"
    champion = ReConPatch.load(download_detector(uri), threads=1, device="cpu")

    def predict(name: str, brightness: float) -> None:
        images = _images(tmp_path / name, 30, brightness, seed=len(name))
        version = registered_version(uri)
        assert len(list(logged(champion.stream(images), project / "predictions", "nut", version, None))) == 30

    now = datetime.now(UTC)
    predict("monday", 110)
    first = check_drift(run.settings(), "nut", project, now=now + timedelta(days=1))
    assert first.check is not None
    assert (first.check.reference, first.check.window, first.check.alarm) == (20, 30, False)
    predict("tuesday", 150)
    second = check_drift(run.settings(), "nut", project, now=now + timedelta(days=2))
    assert second.check is not None
    assert second.check.alarm
    assert second.picture is not None
    assert second.picture.read_bytes().startswith(b"\x89PNG")
