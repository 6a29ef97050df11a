"""The commands that `reconpatch lineage` names are run, and make an old version again to the bit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

from flows.train import train
from reconpatch.files import sha256_file
from reconpatch.integrations.mlflow_lineage import Lineage, trace

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


@pytest.mark.slow
@pytest.mark.server
def test_an_old_version_is_made_again_to_the_bit_by_the_commands_that_lineage_names(
    make_project, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(dents=False)
    root = project.root
    (root / ".gitignore").write_text(
        "/data/*\n!/data/*.dvc\n/outputs\n/runs\n/.cache\n/mlflow.db\n/mlartifacts\n"
    )
    shutil.copy(mlflow_template, root / "mlflow.db")
    _commit(root, "as it was")
    train(project=root)

    # Since then the images, the parameters and the code have moved on.
    images = root / "data" / "tiny" / "plain" / "train" / "good"
    shutil.copy(images / "000.png", images / "new.png")
    project.dvc("add", "-q", "data/tiny")
    project.set("coreset.ratio", 0.5)
    (root / "reconpatch" / "memory" / "coreset.py").write_text("raise RuntimeError('later code')\n")
    _commit(root, "later")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    lineage = trace(f"models:/{NAME}/1")
    assert (lineage.problem, lineage.aliases) == (None, ("challenger", "champion"))
    assert len(lineage.commands) == 8
    for command in lineage.commands:
        _run(command, lineage, root)
    # Nothing here was touched by it: another registry holds the version that was made again.
    assert len(MlflowClient().search_model_versions(f"name = '{NAME}'")) == 1
