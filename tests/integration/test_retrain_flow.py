"""Retraining on a few small images: new ones become a candidate, once, and without them nothing happens."""

import base64
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from prefect.artifacts import Artifact

from flows.evaluate import evaluate
from flows.retrain import retrain
from flows.support.project_locks import category, hold
from reconpatch import ReConPatch
from reconpatch.settings import load_settings
from reconpatch.storage.detector_folder import read_training_set
from reconpatch.text.markdown import plain_markdown
from tasks.registry.champion import champion_folder, find_champion
from tasks.running.content_hashes import Hasher
from tasks.running.dvc_commit import note_unrecorded, unrecorded

NAME = "reconpatch-tiny-plain"


def _client(project) -> MlflowClient:
    uri = f"sqlite:///{project.root / 'mlflow.db'}"
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _aliases(project) -> dict[str, str]:
    return {name: str(one) for name, one in _client(project).get_registered_model(NAME).aliases.items()}


def _versions(project) -> int:
    return len(_client(project).search_model_versions(f"name = '{NAME}'"))


def _train_folder(project) -> Path:
    return project.root / "data" / "tiny" / "plain" / "train" / "good"


def _arrive(project, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.normal(90, 12, (72, 72, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(_train_folder(project) / f"new-{seed}-{number}.png")


def _pictured(artifact: Artifact) -> bytes:
    head, _, content = artifact.data.partition(",")
    assert head == "data:image/png;base64"
    return base64.b64decode(content)


def _digests(project) -> set[str]:
    hasher = Hasher(project.root)
    return {hasher.file(path) for path in _train_folder(project).iterdir()}


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.server
def test_new_images_become_a_candidate_once_by_a_fit_or_by_an_update(
    make_project, mlflow_template: Path, tmp_path: Path
) -> None:
    project = make_project(dents=False)
    root = project.root
    shutil.copy(mlflow_template, root / "mlflow.db")
    (first,) = retrain(project=root)
    assert (first.decision, first.new, _aliases(project)["champion"]) == ("champion", 12, "1")
    assert "up to date" in project.dvc("status")
    pictured = Artifact.get("retrain-heat-maps-tiny-plain")
    assert (pictured.type, pictured.description) == ("image", plain_markdown(str(first)))
    assert _pictured(pictured) == first.heat_maps.read_bytes()
    shown = Artifact.get(f"gate-{NAME}-1")
    kept = _client(project).get_model_version(NAME, "1").tags
    assert shown.data == kept["gate_table"]
    assert shown.description == f"{NAME}, version 1: {kept['gate']} (no champion yet)"

    fits = sorted((root / "outputs").rglob("record.json"))
    written = [file.stat().st_mtime_ns for file in fits]
    state = retrain(project=root, return_state=True)
    assert [file.stat().st_mtime_ns for file in fits] == written  # no stage ran again
    assert fits == sorted((root / "outputs").rglob("record.json"))
    assert state.is_completed()
    assert "plain: no new data since version 1" in state.message
    assert _versions(project) == 1

    # What became champion and could not be recorded, as on a full disk, is recorded though nothing is new.
    (root / "dvc.lock").unlink()
    (root / ".dvc" / "tmp" / "rwlock").write_text('{"read": {"half')
    os.utime(root / ".dvc" / "tmp" / "rwlock", (1, 1))
    note_unrecorded("tiny", ["plain"], root)
    (late,) = retrain(project=root)
    assert (late.decision, _versions(project), unrecorded("tiny", root)) == ("nothing new", 1, set())
    assert "up to date" in project.dvc("status")

    settings = load_settings(root / "params.yaml")
    champion = find_champion(settings, root, "plain")
    with champion_folder(champion, settings, root) as folder:
        known = _bytes(folder)
        expected = ReConPatch.load(folder, threads=1)
        _arrive(project, 5, seed=1)
        project.set("retrain.mode", "update")
        (updated,) = retrain(project=root)
        new = [path for path in sorted(_train_folder(project).iterdir()) if path.name.startswith("new-")]
        expected.update(new, earlier=root / "data" / "tiny" / "plain")
        expected.save(tmp_path / "library")
    assert _pictured(Artifact.get("retrain-heat-maps-tiny-plain")) == updated.heat_maps.read_bytes()
    assert "runs" in updated.heat_maps.parts
    assert (updated.decision, updated.new, updated.version) == ("awaiting approval", 5, "2")
    assert _aliases(project)["champion"] == "1"
    (model,) = (root / "runs").glob("*/tiny/plain/*/calibrate/model")
    assert _bytes(model) == _bytes(tmp_path / "library")
    training = read_training_set(model)
    assert {*training.fit, *training.holdout} == _digests(project)
    assert training.updates == 1
    assert (root / "runs").joinpath(model.relative_to(root / "runs").parts[0], "champion").is_dir()
    assert known == _bytes(model.parents[4] / "champion")

    again = retrain(project=root, return_state=True)
    assert "version 2 (registered before): awaiting approval" in again.message
    assert _versions(project) == 2

    _train_folder(project).joinpath("000.png").unlink()
    (full,) = retrain(project=root)
    assert (full.new, full.gone, full.version) == (5, 1, "3")  # a bank forgets no image: fitted anew
    model = root / "outputs/tiny/plain/tf_efficientnet_lite0/calibrate/model"
    training = read_training_set(model)
    assert ({*training.fit, *training.holdout}, training.updates) == (_digests(project), 0)

    standings = {one.alias: one for one in evaluate(project=root)}
    assert {alias: one.version for alias, one in standings.items()} == {"champion": "1", "challenger": "3"}
    now, then = standings["challenger"].now, standings["challenger"].then
    assert (now["threshold"], now["n_train"]) == (then["threshold"], then["n_train"])
    assert "challenger" in standings["challenger"].row.values()


@pytest.mark.server
def test_a_category_whose_retrain_runs_already_is_left_alone_and_no_other(
    make_project, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project()
    shutil.copy(mlflow_template, project.root / "mlflow.db")
    project.set("retrain.when_busy", "skip")
    begun = []
    monkeypatch.setattr("flows.retrain.run_stages", lambda *given: (begun.append(given[3]), ([], []))[1])
    with hold(category("tiny", "dents"), project.root):
        outcomes = {one.category: one.decision for one in retrain(project=project.root)}
    assert outcomes == {"dents": "busy", "plain": "failed"}
    assert begun == [["plain"]]
    assert {one.category: one.decision for one in retrain(["dents"], project.root)} == {"dents": "failed"}
    assert begun[1:] == [["dents"]]


def test_a_webhook_is_told_and_its_silence_harms_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import httpx

    from flows.support import retrain_notice

    told = []

    def post(url: str, **given: object) -> httpx.Response:
        told.append((url, given["json"]))
        raise httpx.ConnectError("nobody there")

    monkeypatch.setattr(retrain_notice, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(retrain_notice.httpx, "post", post)
    settings = load_settings(None, ["retrain.webhook=http://127.0.0.1:9/x", "pipeline.dataset=tiny"])
    outcome = retrain_notice.Outcome("plain", 3, 0, "2", "awaiting approval", "version 2")
    with caplog.at_level("WARNING"):
        retrain_notice.publish([outcome], [], settings)
    assert told[0][0] == "http://127.0.0.1:9/x"
    assert json.loads(json.dumps(told[0][1]))["outcomes"][0]["model"] == NAME
    assert "retrain.webhook" in caplog.text
    retrain_notice.publish([retrain_notice.Outcome("plain", 0, 0, "2", "nothing new", "")], [], settings)
    assert len(told) == 1
