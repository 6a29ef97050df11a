"""A retrain that is killed anywhere ends, run again, in the bytes of one that was not; registered once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
KILLS = 30 if SOAK else 1


def _start(root: Path) -> subprocess.Popen[bytes]:
    hidden = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.retrain"],
        cwd=root,
        env={**environment, "PREFECT_HOME": str(root / ".prefect"), "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _finish(root: Path) -> float:
    start = time.monotonic()
    process = _start(root)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed.decode()
    return time.monotonic() - start


def _outputs(root: Path) -> dict[str, bytes]:
    kept = (path for path in (root / "outputs").rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in kept
        if path.name != "timings.json"
        and not path.name.endswith(".lock")
        and "+data_docs/" not in path.as_posix()  # Data Docs show when they were made
    }


def _registered(root: Path) -> list[tuple[str, str]]:
    uri = f"sqlite:///{root / 'mlflow.db'}"
    found = MlflowClient(tracking_uri=uri, registry_uri=uri).search_model_versions()
    return [(str(one.version), one.tags["output_digest"]) for one in found]


@pytest.mark.slow
@pytest.mark.server
def test_reruns_after_kills_end_in_the_same_bytes(
    make_project, mlflow_template: Path, prefect_server: Path, tmp_path: Path
) -> None:
    pristine = make_project("pristine", dents=False).root
    (pristine / ".prefect").mkdir()
    shutil.copy(prefect_server, pristine / ".prefect")
    shutil.copy(mlflow_template, pristine / "mlflow.db")
    calm = tmp_path / "calm"
    shutil.copytree(pristine, calm)
    seconds = _finish(calm)
    expected, registered = _outputs(calm), _registered(calm)
    assert len(registered) == 1
    moments = np.random.default_rng(7)
    hit = late = 0
    while hit < KILLS:
        assert late <= 2 * KILLS, "the kills came too late to interrupt anything"
        # Spread over the run, one in each part of it; its first fifth is the start of Python and the server.
        moment = seconds * (0.2 + 0.8 * (hit + moments.random()) / KILLS)
        root = tmp_path / "killed"
        shutil.copytree(pristine, root)
        process = _start(root)
        try:
            process.wait(moment)
            late += 1
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            hit += 1
        process.communicate()
        _finish(root)
        assert _outputs(root) == expected, f"kill after {moment:.1f} s of {seconds:.1f} s"
        assert _registered(root) == registered
        shutil.rmtree(root)
