"""What goes wrong around a retrain is tried again or told, and leaves nothing half done or done twice."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

import flows.support.register_and_commit as closing
from flows.retrain import image_changes, retrain
from flows.train import train

NAME = "reconpatch-tiny-plain"
NOWHERE = "http://127.0.0.1:9"


def _versions(root: Path) -> list[str]:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return [str(one.version) for one in MlflowClient(uri, uri).search_model_versions(f"name = '{NAME}'")]


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their waits."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for one in (closing.register, closing.commit, image_changes):
        monkeypatch.setattr(one, "retry_delay_seconds", 0)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.usefixtures("no_patience")
def test_an_mlflow_that_is_away_a_locked_dvc_a_lost_file_and_a_full_disk(
    make_project, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(dents=False)
    root = project.root
    shutil.copy(mlflow_template, root / "mlflow.db")

    # Away for good: the flow fails, says where it looked, and has done nothing.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    state = retrain(project=root, return_state=True)
    assert state.is_failed()
    assert "MLflow refused a look for the champion" in state.message
    assert "MLFLOW_TRACKING_URI" in state.message
    assert not (root / "outputs").exists()

    # Away when the work is done, DVC locked by another process: both are there again at the second try.
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    lock = root / ".dvc" / "tmp" / "rwlock"
    tries = {"register": 0, "commit": 0}

    import tasks.registry.register as registration

    register_detectors, commit_stages = registration.register_detectors, closing.commit_stages

    def register_late(*given, **named):
        tries["register"] += 1
        with pytest.MonkeyPatch.context() as away:
            if tries["register"] == 1:
                away.setenv("MLFLOW_TRACKING_URI", NOWHERE)
            return register_detectors(*given, **named)

    def commit_late(*given):
        tries["commit"] += 1
        if tries["commit"] == 1:
            holder = {"pid": os.getpid(), "cmd": "dvc repro"}
            lock.write_text(json.dumps({"write": {str(root / "outputs"): holder}}))
        try:
            return commit_stages(*given)
        finally:
            lock.unlink(missing_ok=True)

    monkeypatch.setattr(registration, "register_detectors", register_late)
    monkeypatch.setattr(closing, "commit_stages", commit_late)
    (outcome,) = retrain(project=root)
    assert tries == {"register": 2, "commit": 2}
    assert (outcome.decision, _versions(root)) == ("champion", ["1"])
    assert "up to date" in project.dvc("status")
    expected = project.outputs()

    # A file of a finished stage is gone, and all features: they are made again, and are what they were.
    stages = root / "outputs/tiny/plain/tf_efficientnet_lite0"
    (stages / "coreset" / "bank.safetensors").unlink()
    shutil.rmtree(root / ".cache" / "features")
    train(project=root)
    assert (project.outputs(), _versions(root)) == (expected, ["1"])

    # No room for a bank: nothing instead of a part of it, and the reason; with room it is what it was.
    shutil.rmtree(stages / "coreset")
    command = [sys.executable, "-m", "tasks.stages", "coreset", "--category", "plain"]
    command += ["--backbone", "tf_efficientnet_lite0"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    bank = len(expected["tiny/plain/tf_efficientnet_lite0/coreset/bank.safetensors"])
    full = subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bank // 2, bank // 2)),
    )
    assert full.returncode == 1, full.stderr
    assert (
        "coreset failed: coreset (plain, tf_efficientnet_lite0): its outputs cannot be written" in full.stderr
    )
    assert "Traceback" not in full.stderr
    assert not list(stages.glob("*coreset*/"))
    subprocess.run(command, cwd=root, env=environment, check=True)
    assert project.outputs() == expected
