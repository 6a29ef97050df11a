"""A registry URI is taken wherever a detector folder is; a version that cannot be read says why."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from finished_runs import PipelineRun, fit_detector, write_images
from typer.testing import CliRunner

from reconpatch import ReConPatch
from reconpatch.cli import app
from reconpatch.data.manifest import build_manifest
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.storage import detector_config
from tasks.operations.batch_scoring import Request, score_folder
from tasks.registry.register import register_run

CHAMPION = "models:/reconpatch-tiny-nut@champion"


@pytest.fixture(scope="module")
def registered(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    """Version 1 is champion, 2 was written in another schema, 3 by an older library, 4 by a newer one."""
    root = tmp_path_factory.mktemp("project")
    images = write_images(root / "data" / "tiny" / "nut")
    shutil.copy(mlflow_template, root / "mlflow.db")
    detector = fit_detector(images, root / "detector")
    run = PipelineRun(root, detector, images)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_run(run.settings(), [run.finish()])
        other = shutil.copytree(detector, root / "other")
        config = json.loads((other / "config.json").read_text())
        (other / "config.json").write_text(json.dumps(config | {"schema_version": 99}))
        patched.setattr(detector_config, "SCHEMA_VERSION", 99)  # as the library that wrote it has it
        later = PipelineRun(root, other, images)
        assert register_run(run.settings(), [later.finish()])[0].version == "2"
        patched.undo()
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        older, newer = dict(config["settings"]), dict(config["settings"])
        older["calibrate"] = {k: v for k, v in older["calibrate"].items() if k != "suspicious_z"}
        newer["scoring"] = newer["scoring"] | {"not_thought_of_yet": 1}
        for number, settings in ((3, older), (4, newer)):
            other = shutil.copytree(detector, root / f"other-{number}")
            (other / "config.json").write_text(json.dumps(config | {"settings": settings}))
            done = PipelineRun(root, other, images).finish()
            assert register_run(run.settings(), [done])[0].version == str(number)
    return run


@pytest.fixture(autouse=True)
def store(registered: PipelineRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{registered.root / 'mlflow.db'}")


def test_predict_evaluate_and_update_take_a_registry_uri(registered: PipelineRun, tmp_path: Path) -> None:
    images = sorted((registered.images / "test" / "good").iterdir())
    outputs = {}
    for model in (CHAMPION, str(registered.detector)):
        out, report = tmp_path / f"{len(outputs)}", tmp_path / f"{len(outputs)}.json"
        for command in (
            ["predict", model, *map(str, images), "--json", str(report)],
            ["update", model, str(images[0]), "--out", str(out)],
        ):
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.output
        outputs[model] = json.loads(report.read_text())
        assert len(ReConPatch.load(out).parts.training_set) > 0
        done = CliRunner().invoke(app, ["evaluate", model, str(registered.images), "--json", f"{report}.e"])
        assert done.exit_code == 0, done.output
    assert outputs[CHAMPION] == outputs[str(registered.detector)]
    figures = [json.loads((tmp_path / f"{number}.json.e").read_text()) for number in (0, 1)]
    assert figures[0]["threshold"] == figures[1]["threshold"]


def test_python_and_the_batch_take_one_too(registered: PipelineRun, tmp_path: Path) -> None:
    images = sorted((registered.images / "test" / "good").iterdir())
    detector, same = (
        ReConPatch.load(model, device="cpu", threads=1) for model in (CHAMPION, registered.detector)
    )
    scores = [one.score for one in detector.predict(images)]
    assert scores == [one.score for one in same.predict(images)]
    table = build_manifest(registered.images, detector.settings.data)
    assert evaluate(detector, table, detector.settings).metrics["n_test"] == 2
    assert len(detector.update(images[:1]).training_set) > len(same.training_set)
    request = Request(CHAMPION, registered.images / "test", tmp_path / "out")
    done = score_folder(request, registered.settings("threads=1", "device=cpu"), registered.root)
    assert list(done.table["score"]) == scores


def _fresh(folder: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_version_of_another_schema_is_refused_in_a_fresh_process_with_the_reason(tmp_path: Path) -> None:
    code = "from reconpatch.cli import main; main()"
    done = _fresh(tmp_path, code, "predict", "models:/reconpatch-tiny-nut/2", "a.png")
    assert done.returncode == 1
    assert "has schema version 99, this reconpatch reads" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


_EACH = """
import sys
from reconpatch import ReConPatch
from reconpatch.errors import ReConPatchError
for version in (3, 4):
    try:
        print(ReConPatch.load(f"models:/reconpatch-tiny-nut/{version}").predict(sys.argv[1])[0].score)
    except ReConPatchError as error:
        print(error)
"""


def test_in_a_fresh_process_a_version_of_an_older_library_loads_and_one_of_a_newer_says_what_is_unknown(
    registered: PipelineRun, tmp_path: Path
) -> None:
    image = registered.images / "test" / "good" / "0.png"
    done = _fresh(tmp_path, _EACH, str(image))
    older, newer = done.stdout.splitlines()
    (wanted,) = ReConPatch.load(registered.detector).predict(image)
    assert float(older) == wanted.score
    assert "unknown parameter `scoring.not_thought_of_yet`" in newer
    assert newer.endswith("the detector was written by another version of reconpatch")


def test_its_gate_says_that_it_cannot_be_compared_and_a_person_decides(registered: PipelineRun) -> None:
    tags = registered.client.get_model_version("reconpatch-tiny-nut", "2").tags
    assert tags["gate"] == "a person decides"
