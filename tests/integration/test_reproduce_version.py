"""The commands that `reconpatch lineage` names are run, and make an old version again to the bit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from prefect.settings import PREFECT_API_URL

from flows.retrain import retrain
from flows.train import train
from reconpatch.integrations.mlflow_lineage import Lineage, trace
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.detector_folder import read_training_set

SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
ROOT = Path(__file__).resolve().parents[2]
NAME = "reconpatch-tiny-plain"
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost")


def _commit(root: Path, message: str) -> None:
    subprocess.run([*GIT, "add", "-A"], cwd=root, check=True)
    subprocess.run([*GIT, "commit", "-qm", message], cwd=root, check=True)


def _run(command: str, lineage: Lineage, root: Path) -> None:
    if "pip install" in command and not SOAK:
        # The environment of the lock file that the version names is this one; `make soak` makes it anew.
        assert lineage.origin["environment"]["lock_file_hash"] == sha256_file(ROOT / "constraints.txt")
        place = command.split()[3].removesuffix("/.venv")
        command = f"ln -s {sys.prefix} {place}/.venv"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "PYTHONPATH": ".",
    }
    done = subprocess.run(
        ["bash", "-c", command], cwd=root, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def _detector(folder: Path) -> dict[str, bytes]:
    """Every byte of the one detector that an update left below a project."""
    (model,) = (folder / "runs").glob("*/tiny/plain/*/calibrate/model")
    return {path.name: path.read_bytes() for path in model.iterdir()}


@pytest.mark.slow
@pytest.mark.server
def test_an_old_version_and_its_update_are_made_again_to_the_bit_by_the_commands_that_lineage_names(
    make_project, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(dents=False, trained=True)
    root = project.root
    (root / ".gitignore").write_text(
        "/data/*\n!/data/*.dvc\n/outputs\n/runs\n/.cache\n/mlflow.db\n/mlartifacts\n"
    )
    shutil.copy(mlflow_template, root / "mlflow.db")
    _commit(root, "as it was")
    train(project=root)

    # Images arrive, and the champion learns them; what a retrain tells is nobody's business later.
    images = root / "data" / "tiny" / "plain" / "train" / "good"
    random = np.random.default_rng(1)
    for number in range(3):
        pixels = random.normal(90, 12, (72, 72, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"new-{number}.png")
    project.dvc("add", "-q", "data/tiny")
    project.set("retrain.mode", "update")
    project.set("retrain.webhook", "http://127.0.0.1:9/nobody")
    _commit(root, "images arrived")
    (updated,) = retrain(project=root)
    assert updated.version == "2"
    before = _detector(root)

    # Since then the images, the parameters and the code have moved on.
    shutil.copy(images / "000.png", images / "later.png")
    project.dvc("add", "-q", "data/tiny")
    project.set("coreset.ratio", 0.5)
    (root / "reconpatch" / "coreset" / "k_center.py").write_text("raise RuntimeError('later code')\n")
    _commit(root, "later")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    first, lineage = trace(f"models:/{NAME}/1"), trace(f"models:/{NAME}/2")
    assert (first.problem, first.aliases) == (None, ("champion",))
    assert (lineage.problem, lineage.origin["model"]["updated_from"]) == (None, "1")
    assert (len(first.commands), len(lineage.commands)) == (8, 18)
    assert lineage.commands[:8] == first.commands
    for command in lineage.commands:
        _run(command, lineage, root)
    made = lineage.commands[8].split()[-2]
    assert _detector(root / made) == before
    assert read_training_set(next((root / made / "runs").glob("*/tiny/plain/*/calibrate/model"))).updates == 1
    # Nothing here was touched by it: another registry holds the versions that were made again.
    client = MlflowClient()
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 2
    client.delete_model_version(NAME, "1")
    orphan = trace(f"models:/{NAME}/2")
    assert orphan.commands == []
    assert "version 2 learned new images on top of version 1, which is gone" in str(orphan.problem)
