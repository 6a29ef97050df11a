"""A cluster of processes ends in the bytes that threads end in."""

import shutil
from pathlib import Path

import pytest

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


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_two_processes_that_share_a_store_end_in_the_bytes_of_threads(
    make_project, mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    pytest.importorskip(f"prefect_{runner}")
    expected = _trained(make_project("threads", dents=False), mlflow_template)
    project = make_project("cluster", dents=False)
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("PYTHONPATH", str(project.root))
    share = tmp_path / "share"
    assert expected == _trained(
        project, mlflow_template, runner=runner, concurrency=2, parts=2, shared=share.as_uri()
    )
    assert len(list((share / "chunks").iterdir())) > 1
    assert len(list((share / "features").rglob("*/*"))) > 0
