"""Tuning on a tiny category: trials as MLflow runs, test labels for the report alone, resumable."""

import json
from pathlib import Path

import pytest
from tiny_study import TINY, client, runs, write_project

from reconpatch.errors import DataError, SettingsError
from reconpatch.settings import load_settings
from tasks.operations import tune
from tasks.operations.tune import run_tuning


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return write_project(tmp_path, mlflow_template)


def test_trials_are_runs_and_a_second_call_counts_them(project):
    settings = load_settings(None, [*TINY, "calibrate.holdout=0.4"])
    first = run_tuning(settings, "nut", trials=2, ranked=True, project=project)
    assert first.trials["alpha"].iloc[0] == settings.modulation.alpha, "the search starts from what is given"
    found = run_tuning(settings, "nut", trials=4, ranked=True, project=project)
    assert found.trials.iloc[:2].equals(first.trials)
    assert found.run_id == first.run_id
    (parent,), nested = runs(project, tune.EXPERIMENT)
    assert parent.info.status == "FINISHED"
    assert sorted(run.info.run_name for run in nested) == [
        "PatchCore",
        "trial 0",
        "trial 1",
        "trial 2",
        "trial 3",
    ]
    run = next(run for run in nested if run.info.run_name == "trial 3")
    assert float(run.data.params["modulation.alpha"]) == found.trials["alpha"].iloc[3]
    assert run.data.metrics["synthetic_image_auroc"] == found.trials["synthetic_image_auroc"].iloc[3]
    names = {item.path for item in client(project).list_artifacts(parent.info.run_id, "results")}
    assert names == {f"results/{name}" for name in ("trials.csv", "best.json", "ranking.json", "ranking.png")}
    best = json.loads((found.folder / "best.json").read_text())
    assert best["value"] == found.trials["synthetic_image_auroc"].max()


def test_without_rank_no_test_image_is_read(project):
    for path in (project / "data/tiny/nut/test").rglob("*.png"):
        path.unlink()
    settings = load_settings(None, [*TINY, "calibrate.holdout=0.4"])
    found = run_tuning(settings, "nut", trials=1, project=project)
    assert found.ranking is None
    assert "test_image_auroc" not in found.trials.columns


def test_what_cannot_be_tuned_is_refused(project):
    with pytest.raises(SettingsError, match=r"modulation\.enabled: is false"):
        run_tuning(load_settings(None, [*TINY, "modulation.enabled=false"]), "nut", project=project)
    with pytest.raises(DataError, match="no nominal image is held out to judge"):
        run_tuning(load_settings(None, [*TINY, "calibrate.holdout=0"]), "nut", project=project)
