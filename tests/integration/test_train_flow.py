"""The whole pipeline on a few small images: flow, dvc repro and library are one and the same."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from prefect.artifacts import Artifact

from flows.support.flow_failures import FlowFailedError
from flows.train import train
from reconpatch import ReConPatch
from reconpatch.settings import load_settings
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import jobs_of

NET = "tf_efficientnet_lite0"


def _model(project) -> Path:
    return project.root / "outputs" / "tiny" / "dents" / NET / "calibrate" / "model"


def _count_banks(project) -> int:
    """Copies of the first category's bank on disk, under whatever name DVC might keep it."""
    bank = (_model(project) / "bank.safetensors").read_bytes()
    files = [path for path in project.root.rglob("*") if path.is_file()]
    return sum(path.stat().st_size == len(bank) and path.read_bytes() == bank for path in files)


@pytest.mark.slow
@pytest.mark.server
def test_flow_dvc_and_library_agree_and_each_finds_the_others_work_done(make_project, tmp_path: Path) -> None:
    project = make_project()
    rows = {row["category"]: row for row in train(project=project.root)}
    assert float(rows["dents"]["image_auroc"]) > 0.5
    assert rows["plain"]["image_auroc"] == "not available"
    assert rows["plain"]["pixel_auroc"] == "not available"

    assert _count_banks(project) == 3  # coreset, detector folder, MLflow
    assert "up to date" in project.dvc("status")
    assert "Running stage" not in project.dvc("repro")
    before = project.outputs()
    stamps = {path: path.stat().st_mtime_ns for path in (project.root / "outputs").rglob("*.json")}
    train(project=project.root)
    assert project.outputs() == before
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps

    twin = make_project("twin", plain=False)
    assert "Running stage" in twin.dvc("repro")
    assert twin.outputs() == {path: data for path, data in before.items() if path.startswith("tiny/dents/")}
    assert _count_banks(twin) == 2  # coreset, detector folder
    stamps = {path: path.stat().st_mtime_ns for path in (twin.root / "outputs").rglob("*.json")}
    train(project=twin.root)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert "up to date" in twin.dvc("status")

    settings = load_settings(project.root / "params.yaml")
    ReConPatch(settings=settings).fit(project.root / "data" / "tiny" / "dents").save(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == {
        path.name: path.read_bytes() for path in _model(project).iterdir()
    }


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("change", ["parameter", "source file", "image"])
def test_a_change_during_the_flow_makes_the_commit_refuse(
    make_project, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    project = make_project(dents=False, trained=True)

    def edit(*_arguments: object, **_options: object) -> list[object]:
        if change == "parameter":
            project.set("modulation.alpha", 0.25)
        elif change == "source file":
            with (project.root / "reconpatch" / "training" / "loss.py").open("a") as stream:
                stream.write("\n# edited\n")
        else:
            image = project.root / "data" / "tiny" / "plain" / "train" / "good" / "000.png"
            shutil.copy(image.with_name("001.png"), image)
        return []

    monkeypatch.setattr("tasks.registry.register.register_detectors", edit)
    monkeypatch.setattr("tasks.registry.candidates.nominate_candidates", lambda *_: [])
    named = {"parameter": "modulation.alpha", "source file": "reconpatch/training", "image": "data"}
    with pytest.raises(FlowFailedError, match="nothing was recorded with DVC") as caught:
        train(project=project.root)
    assert named[change] in str(caught.value)
    assert not (project.root / "dvc.lock").exists()


@pytest.mark.slow
@pytest.mark.server
def test_a_failing_category_stops_no_other_and_fails_the_flow(make_project) -> None:
    project = make_project()
    image = project.root / "data" / "tiny" / "dents" / "train" / "good" / "003.png"
    image.write_bytes(image.read_bytes()[:500])
    with pytest.raises(FlowFailedError, match=r"validate dents: (.|\n)*003\.png") as caught:
        train(project=project.root)
    told = str(caught.value)
    assert told.count("good/003.png") == 1
    left = f"not run because of it: features, train, coreset, calibrate, evaluate (dents, {NET})"
    assert told.splitlines()[-1].strip() == left
    done = json.loads((project.root / "outputs/tiny/plain" / NET / "evaluate/metrics.json").read_text())
    assert done["category"] == "plain"
    assert not (project.root / "outputs/tiny/dents/validate").exists()
    assert not (project.root / "outputs/tiny/dents" / NET).exists()  # stopped before any compute
    for category, verdict in (("dents", "FAILED"), ("plain", "passed")):
        artifact = Artifact.get(f"data-checks-tiny-{category}")
        assert verdict in artifact.data
        assert ("003.png" in artifact.data) is (category == "dents")
        assert "of experiment reconpatch-data" in artifact.data
        assert (project.root / f"outputs/tiny/{category}+data_docs/index.html").is_file()
    assert "plain" in (project.root / "dvc.lock").read_text()


@pytest.mark.slow
@pytest.mark.server
def test_overrides_run_beside_and_leave_dvc_alone(make_project) -> None:
    project = make_project(dents=False)
    train(overrides=["modulation.enabled=false"], project=project.root)
    assert not (project.root / "outputs").exists()
    assert not (project.root / "dvc.lock").exists()
    (run,) = (project.root / "runs").iterdir()
    model = run / "tiny" / "plain" / NET / "calibrate" / "model"
    assert {path.name for path in model.iterdir()} == {
        "bank.safetensors",
        "calibration.json",
        "config.json",
        "held_out.parquet",
        "training_set.json",
    }


@pytest.mark.server
def test_the_results_go_to_git_after_dvc_when_asked_for(
    make_project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(dents=False)
    project.set("pipeline.git_commit", True)
    settings = load_settings(project.root / "params.yaml")
    (job,) = jobs_of("evaluate", settings, project.root, project.root / "outputs")
    finished = Finished("evaluate", job, job.folder("evaluate"), ran=True)
    finished.folder.mkdir(parents=True)
    (finished.folder / "metrics.json").write_text("{}")
    monkeypatch.setattr("flows.train.run_stages", lambda *_: ([finished], []))
    monkeypatch.setattr("tasks.registry.register.register_detectors", lambda *_, **__: [])
    monkeypatch.setattr("tasks.registry.candidates.nominate_candidates", lambda *_: [])
    monkeypatch.setattr(
        "flows.support.register_and_commit.commit_stages",
        lambda _, root: (root / "dvc.lock").write_text("stages: {}"),
    )
    train(project=project.root)
    command = ["git", "show", "--name-only", "--format=%an", "HEAD"]
    shown = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout
    metrics = f"outputs/tiny/plain/{NET}/evaluate/metrics.json"
    assert shown.split("\n") == ["reconpatch flow", "", "dvc.lock", metrics, ""]
