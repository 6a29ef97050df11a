import json
import shutil
import subprocess
from pathlib import Path

import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from typer.testing import CliRunner

from reconpatch.cli import app
from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_lineage import trace
from reconpatch.settings import load_settings
from tasks.registry.register import register_run

CHAMPION = "models:/reconpatch-tiny-nut@champion"


@pytest.fixture(scope="module")
def registered(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """One version, made in a git repository with the data under DVC."""
    root = tmp_path_factory.mktemp("project")
    images = write_images(root / "data" / "tiny" / "nut")
    (root / "data" / "tiny.dvc").write_text("outs:\n- md5: 0123456789abcdef.dir\n  path: tiny\n")
    (root / "constraints.txt").write_text("numpy==2\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for command in (["init", "-q"], ["add", "constraints.txt"], ["commit", "-qm", "start"]):
        subprocess.run([*git, *command], cwd=root, check=True)
    shutil.copy(mlflow_template, root / "mlflow.db")
    run = PipelineRun(root, fit_detector(images, root / "detector"), images)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        finished = run.finish(image_auroc_low=0.85, image_auroc_high=0.94)
        subprocess.run([*git, "add", "mlflow"], cwd=root, check=True)
        subprocess.run([*git, "commit", "-qm", "policy"], cwd=root, check=True)
        register_run(run.settings(), [finished])
    return run


@pytest.fixture(autouse=True)
def store(registered: PipelineRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.root / 'mlflow.db'}")


def test_every_room_is_known_and_the_commands_name_commit_and_run(registered: PipelineRun) -> None:
    found = trace(CHAMPION)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=registered.root, capture_output=True, text=True, check=True
    )
    assert found.aliases == ("challenger", "champion")
    assert found.origin["code"]["git_commit"] == head.stdout.strip()
    assert found.origin["images"]["dvc_data_hash"] == "0123456789abcdef.dir"
    assert found.origin["images"]["n_train"] == "8"
    unknown = [name for room in found.origin.values() for name, value in room.items() if value == "unknown"]
    assert unknown == []
    assert int(found.origin["model"]["bank_vectors"]) > 0
    assert int(found.origin["model"]["model_bytes"]) > int(found.origin["model"]["bank_bytes"]) > 0
    assert found.metrics["image_auroc"] == 0.9
    (approval,) = found.approvals
    assert (approval["kind"], approval["to_version"], approval["ending"]) == ("first", "1", "FINISHED")
    assert found.problem is None
    text = "\n".join(found.commands)
    assert found.origin["code"]["git_commit"] in text
    assert found.run_id in text


def test_the_parameters_of_the_run_can_be_fetched_and_are_the_same(registered: PipelineRun, tmp_path) -> None:
    path = registered.client.download_artifacts(
        trace(CHAMPION).run_id, "reproduce/params.yaml", str(tmp_path)
    )
    assert load_settings(Path(path)) == registered.settings()


def test_the_version_explains_itself_in_the_ui(registered: PipelineRun) -> None:
    version = registered.client.get_model_version("reconpatch-tiny-nut", "1")
    assert version.tags["metrics"].startswith("image AUROC 0.9000 [0.8500, 0.9400]")
    for told in (
        "| training images | 8,",
        "expected false-reject rate",
        "vectors",
        "[pictures](#/experiments/",
    ):
        assert told in version.description


def test_the_command_prints_and_writes_it(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["lineage", CHAMPION, "--json", str(tmp_path / "l.json")])
    assert done.exit_code == 0, done.output
    assert "to make it again" in done.output
    assert "by " in done.output.partition("approvals")[2]
    assert json.loads((tmp_path / "l.json").read_text())["version"] == "1"


def test_what_is_not_there_is_one_clear_error() -> None:
    with pytest.raises(ModelError, match="cannot be traced"):
        trace("models:/reconpatch-tiny-nut/7")
    with pytest.raises(ModelError, match="name a registered model"):
        trace("models:/m-123")
