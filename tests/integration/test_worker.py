"""Deployments for workers: `make deploy`, `make worker`, and a run that somebody asks for."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.deployments import run_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings
from processes import running
from waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.server
def test_a_worker_runs_what_was_deployed_in_its_own_copy_of_the_project(
    make_project: Callable[..., Any], mlflow_template: Path, whole_server: str, tmp_path: Path
) -> None:
    root = make_project("line", dents=False).root
    shutil.copy(mlflow_template, root / "mlflow.db")
    for file in ("Makefile", "prefect.yaml"):
        shutil.copy(ROOT / file, root / file)
    hidden = ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "PYTHONPATH")
    given: dict[str, Any] = {"cwd": root, "env": {k: v for k, v in os.environ.items() if k not in hidden}}
    given["env"]["PREFECT_WORKER_QUERY_SECONDS"] = "1"
    # The virtual environment is there: `setup` counts as done.
    make = ["make", "-o", "setup", f"VENV={sys.prefix}", f"FLOWS_API={whole_server}"]
    done = subprocess.run([*make, "deploy"], capture_output=True, text=True, check=False, **given)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    log = tmp_path / "worker.log"
    with running(log, *make, "worker", **given), temporary_settings({PREFECT_API_URL: whole_server}):
        run = run_deployment("housekeeping/housekeeping", timeout=PATIENCE)
    assert run.state.is_completed(), f"{run.state}\n{log.read_text()}"
    assert run.state.message == "nothing to remove"
