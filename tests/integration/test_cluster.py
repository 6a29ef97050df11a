"""A cluster of processes ends in the bytes that threads end in."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from processes import free_port, running
from waiting import PATIENCE

from flows.train import train


def _trained(project, mlflow_template: Path, **pipeline: object) -> dict[str, bytes]:
    shutil.copy(mlflow_template, project.root / "mlflow.db")
    # So little memory that selection goes chunk by chunk.
    project.set("coreset.memory_budget_mib", 16)
    project.set("features.image_size", 160)
    project.set("modulation.dim", 512)
    project.set("coreset.max_bank", 20)
    project.set("features.batch_size", 4)
    project.set("pipeline.commit", False)
    for name, value in pipeline.items():
        project.set(f"pipeline.{name}", value)
    train(project=project.root)
    return project.outputs()


@contextmanager
def _running(runner: str, folder: Path) -> Iterator[str]:
    """A cluster with two processes on loopback, started by its own commands; gives its address."""
    port = free_port()
    if runner == "dask":
        address = f"tcp://127.0.0.1:{port}"
        dask = [sys.executable, "-m", "dask"]
        # The scheduler reads tasks too: importing only then, it would answer nobody meanwhile.
        options = ["--no-dashboard", "--preload", "flows.support.stage_tasks"]
        worker = [*dask, "worker", address, "--nthreads", "1", "--local-directory", str(folder), *options]
        commands = [
            [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), *options],
            *(worker, worker),
        ]
    else:
        address = f"127.0.0.1:{port}"
        ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--include-dashboard=false"]
        commands = [[*ray, "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]]
    with ExitStack() as started:
        processes = [
            started.enter_context(running(folder / f"{number}.log", *command, cwd=folder))
            for number, command in enumerate(commands)
        ]
        if runner == "dask":
            from distributed import Client

            with Client(address, timeout=PATIENCE) as client:
                client.wait_for_workers(2, timeout=PATIENCE)
        yield address
        assert all(process.poll() is None for process in processes)  # the flow has ended none


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_two_processes_that_share_a_store_end_in_the_bytes_of_threads(
    make_project, mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    pytest.importorskip(f"prefect_{runner}")
    expected = _trained(make_project("threads", dents=False), mlflow_template)
    spread = {"runner": runner, "concurrency": 2, "parts": 2}
    project = make_project("started", dents=False)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    share = tmp_path / "share"
    assert expected == _trained(project, mlflow_template, **spread, shared=share.as_uri())
    assert len(list((share / "chunks").iterdir())) > 1
    assert len(list((share / "features").rglob("*/*"))) > 0

    project = make_project("running", dents=False)
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    (tmp_path / "cluster").mkdir()
    with _running(runner, tmp_path / "cluster") as address:
        # Nothing is shared but the folder: what the processes write lies where the flow looks.
        assert expected == _trained(project, mlflow_template, **spread, cluster=address)
