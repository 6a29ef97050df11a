"""An ablation on a tiny category: MLflow runs, tables, and nothing computed twice."""

from pathlib import Path

import pytest
from tiny_study import TINY, client, runs, write_project

from reconpatch.errors import ModelError, ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from studies import ablation_cell
from tasks.operations import ablate
from tasks.operations.ablate import run_ablation


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return write_project(tmp_path, mlflow_template)


def test_each_cell_is_a_run_and_a_second_call_goes_on(project, monkeypatch):
    settings = load_settings(None, TINY)
    asked = []
    real = ablation_cell.measure_cell

    def failing_once(cell, *arguments):
        asked.append(cell)
        if len(asked) == 2:
            raise ModelError("the second fails")
        return real(cell, *arguments)

    monkeypatch.setattr(ablate, "measure_cell", failing_once)
    with pytest.raises(ReConPatchError, match=r"augmentation, none, ReConPatch, nut, 0: the second fails"):
        run_ablation(settings, studies=["augmentation"], project=project)
    assert len(asked) == 4, "one that fails stops none of the others"
    (parent,), nested = runs(project, ablate.EXPERIMENT)
    assert (parent.info.status, len(nested)) == ("FAILED", 3)

    found = run_ablation(settings, studies=["augmentation"], project=project)
    assert (found.computed, len(asked)) == (1, 5)
    again = run_ablation(settings, studies=["augmentation", "coreset"], project=project)
    assert again.computed == 4, "the default cells of the other table are known already"
    assert again.run_id == found.run_id
    assert again.folder.relative_to(project).parts[0] == "runs"

    (parent,), nested = runs(project, ablate.EXPERIMENT)
    assert parent.info.status == "FINISHED"
    assert len(nested) == 4 + 6
    assert {(run.info.status, run.data.tags["mlflow.parentRunId"]) for run in nested} == {
        ("FINISHED", parent.info.run_id)
    }
    what = {(run.data.tags["setting"], run.data.tags["method"]): run.data for run in nested}
    one = what["10 %", "PatchCore"]
    assert (one.params["coreset.ratio"], one.params["modulation.enabled"]) == ("0.1", "false")
    assert 0 <= one.metrics["image_auroc"] <= 1
    names = {item.path for item in client(project).list_artifacts(parent.info.run_id, "tables")}
    assert {"tables/coreset-nut.png", "tables/coreset-nut.md", "tables/augmentation-nut.csv"} <= names


def test_wrong_names_are_refused_before_any_work(project):
    settings = load_settings(None, TINY)
    with pytest.raises(SettingsError, match="bolt: is not among pipeline"):
        run_ablation(settings, categories=["bolt"], project=project)
    with pytest.raises(SettingsError, match="unknown ablation"):
        run_ablation(settings, studies=["colour"], project=project)
    assert not (project / "runs").exists()
