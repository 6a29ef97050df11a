"""An ablation on a tiny category: MLflow runs, tables, and nothing computed twice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from reconpatch.errors import ModelError, ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from reconpatch.studies import ablation
from tasks import ablate
from tasks.ablate import run_ablation
from tasks.job import PROJECT

TINY = [
    "features.image_size=64", "modulation.dim=16", "modulation.projection_dim=8", "modulation.steps=5",
    "modulation.batch_size=64", "threads=1", "device=cpu", "pipeline.dataset=tiny",
    "pipeline.root=data/tiny", "pipeline.categories=[nut]",
]  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images, an MLflow store, and the real sources to be hashed."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    for name in ("reconpatch", "tasks"):
        (tmp_path / name).symlink_to(PROJECT / name)
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 6), ("test/good", 3), ("test/dent", 3)):
        folder = tmp_path / "data" / "tiny" / "nut" / where
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(90, 140, (64, 64, 3)).astype(np.uint8)
            if where == "test/dent":
                pixels[20:40, 20:40] = 255
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path


def runs(project: Path) -> list:
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    found = client.get_experiment_by_name(ablate.EXPERIMENT)
    return client.search_runs([found.experiment_id], max_results=1000)


def test_each_cell_is_a_run_and_a_second_call_goes_on(project, monkeypatch):
    settings = load_settings(None, TINY)
    asked = []
    real = ablation.measure_cell

    def failing_once(cell, *arguments):
        asked.append(cell)
        if len(asked) == 2:
            raise ModelError("the second fails")
        return real(cell, *arguments)

    monkeypatch.setattr(ablate, "measure_cell", failing_once)
    with pytest.raises(ReConPatchError, match=r"augmentation, none, ReConPatch, nut, 0: the second fails"):
        run_ablation(settings, studies=["augmentation"], project=project)
    assert len(asked) == 4, "one that fails stops none of the others"
    assert sorted(run.info.status for run in runs(project)) == ["FAILED", "FINISHED", "FINISHED", "FINISHED"]

    found = run_ablation(settings, studies=["augmentation"], project=project)
    assert (found.computed, len(asked)) == (1, 5)
    again = run_ablation(settings, studies=["augmentation", "coreset"], project=project)
    assert again.computed == 4, "the default cells of the other table are known already"
    assert again.run_id == found.run_id
    assert again.folder.relative_to(project).parts[0] == "runs"

    (parent,) = (run for run in runs(project) if "mlflow.parentRunId" not in run.data.tags)
    nested = [run for run in runs(project) if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert parent.info.status == "FINISHED"
    assert len(nested) == 4 + 6
    assert {run.info.status for run in nested} == {"FINISHED"}
    one = next(
        run for run in nested if run.data.tags["setting"] == "10 %" and run.data.tags["method"] == "PatchCore"
    )
    assert one.data.params["coreset.ratio"] == "0.1"
    assert one.data.params["modulation.enabled"] == "false"
    assert 0 <= one.data.metrics["image_auroc"] <= 1
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    names = {item.path for item in client.list_artifacts(parent.info.run_id, "tables")}
    assert {"tables/coreset-nut.png", "tables/coreset-nut.md", "tables/augmentation-nut.csv"} <= names


def test_wrong_names_are_refused_before_any_work(project):
    settings = load_settings(None, TINY)
    with pytest.raises(SettingsError, match="bolt: is not among pipeline"):
        run_ablation(settings, categories=["bolt"], project=project)
    with pytest.raises(SettingsError, match="unknown ablation"):
        run_ablation(settings, studies=["colour"], project=project)
    assert not (project / "runs").exists()
