"""A folder is scored by a registered detector once, whatever stands in the way, and says so everywhere."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from finished_runs import PARAMS, PipelineRun, fit_detector, write_images
from PIL import Image
from prefect.client.orchestration import get_client

from flows import batch as flow
from flows.support.flow_failures import FlowFailedError
from reconpatch import ReConPatch
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.line.monitoring.prediction_log import read_predictions
from reconpatch.storage.file_locks import file_lock
from reconpatch.unified.unified_detector import fit_unified
from tasks.operations import batch_scoring as tasks_batch
from tasks.operations.batch_scoring import Request, score_folder
from tasks.registry.register import register_run

URI = "models:/reconpatch-tiny-nut@champion"
VERSION = "reconpatch-tiny-nut/1"


@pytest.fixture(scope="module")
def registered(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> PipelineRun:
    root = tmp_path_factory.mktemp("project")
    images = write_images(root / "data" / "tiny" / "nut")
    shutil.copy(mlflow_template, root / "mlflow.db")
    run = PipelineRun(root, fit_detector(images, root / "detector"), images)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_run(run.settings(), [run.finish()])
    (root / "params.yaml").write_text(yaml.safe_dump(run.settings().model_dump(mode="json", by_alias=True)))
    return run


@pytest.fixture(autouse=True)
def no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in two folders with names alike, a file that is none, and a link that leads away."""
    random = np.random.default_rng(7)
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "c.png"):
        path = tmp_path / "camera" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(90, 140, (64, 64, 3)).astype(np.uint8)).save(path)
    (tmp_path / "camera" / "b" / "broken.png").write_bytes(b"\x89PNG and no more")
    (tmp_path / "camera" / "a" / "away.png").symlink_to("/etc/hostname")
    return tmp_path / "camera"


def _settings(run: PipelineRun):
    return run.settings("threads=1", "device=cpu")


def _logged(log: Path) -> pd.DataFrame:
    return read_predictions(log, model_version=VERSION)


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_the_flow_scores_as_predict_does_and_lists_what_cannot_be_scored(
    registered: PipelineRun, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out_1"
    done = flow.batch(URI, folder, out, maps=True, project=registered.root)
    table = pd.read_parquet(out / "predictions.parquet")
    assert list(table["path"]) == [
        "a/0.png", "a/1.png", "a/away.png", "b/0.png", "b/1.png", "b/broken.png", "c.png",
    ]  # fmt: skip
    assert done.scored == 5
    assert list(done.problems) == ["a/away.png", "b/broken.png"]
    assert "link that leaves" in done.problems["a/away.png"]
    detector = ReConPatch.load(registered.detector, device="cpu", threads=1)
    scored = table[table["problem"].isna()]
    wanted = detector.predict([folder / path for path in scored["path"]])
    assert list(scored["score"]) == pytest.approx([one.score for one in wanted], abs=0)
    assert list(scored["is_anomalous"]) == [one.is_anomalous for one in wanted]
    assert set(scored["model_version"]) == {VERSION}
    pictures = [out / name for name in scored["heat_map"]]
    assert len({*pictures}) == 5
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    assert list(pd.read_csv(out / "predictions.csv")["path"]) == list(table["path"])
    logged = _logged(registered.root / "predictions")
    assert sorted(logged["image"]) == [str(folder / path) for path in scored["path"]]
    assert set(logged["category"]) == {"tiny-nut"}
    with get_client(sync_client=True) as client:
        assert {"batch-out-1", "batch-problems-out-1"} <= {str(one.key) for one in client.read_artifacts()}
    with pytest.raises(FlowFailedError, match="there is no such folder"):
        flow.batch(URI, tmp_path / "none", project=registered.root)


def test_only_what_is_new_or_changed_is_scored_and_the_rest_costs_no_model(
    registered: PipelineRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(URI, folder, tmp_path / "out", log=tmp_path / "log")
    first = score_folder(request, _settings(registered), registered.root)
    with monkeypatch.context() as patched:
        for module in ("tasks.registry.named_model", "reconpatch.line.server.model_source"):
            patched.setattr(f"{module}.load", lambda *_, **__: pytest.fail("there is nothing to score"))
        again = score_folder(request, _settings(registered), registered.root)
    assert (first.scored, again.scored) == (5, 0)
    pd.testing.assert_frame_equal(first.table, again.table)
    assert (again.row["scored before"], again.row["could not be scored"]) == (5, 2)

    shutil.copyfile(folder / "c.png", folder / "b" / "broken.png")  # its writer has finished
    shutil.copyfile(folder / "c.png", folder / "a" / "1.png")
    (folder / "b" / "1.png").unlink()
    third = score_folder(request, _settings(registered), registered.root)
    assert third.scored == 2
    scores = third.table.set_index("path")["score"]
    assert scores["a/1.png"] == scores["c.png"] == scores["b/broken.png"]
    assert scores["b/1.png"] == first.table.set_index("path")["score"]["b/1.png"]
    assert list(third.problems) == ["a/away.png"]
    assert len(_logged(tmp_path / "log")) == 7


def test_heat_maps_asked_for_later_are_made(registered: PipelineRun, folder: Path, tmp_path: Path) -> None:
    request = Request(URI, folder, tmp_path / "out")
    plain = score_folder(request, _settings(registered), registered.root)
    assert plain.table["heat_map"].isna().all()
    drawn = score_folder(
        Request(URI, folder, tmp_path / "out", maps=True), _settings(registered), registered.root
    )
    assert drawn.table["heat_map"].notna().sum() == 5
    assert list(drawn.table["score"].dropna()) == list(plain.table["score"].dropna())


@pytest.mark.parametrize("where", ["append_part", "log_part", "write_table"])
def test_ended_anywhere_and_run_again_each_image_is_scored_and_logged_once(
    registered: PipelineRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    request = Request(URI, folder, tmp_path / "out", log=tmp_path / "log", chunk=2)
    calls = []

    def end(*_: object, **__: object) -> None:
        calls.append(where)
        raise KeyboardInterrupt

    scored: list[str] = []
    real = ReConPatch.stream
    monkeypatch.setattr(
        ReConPatch, "stream", lambda self, images: (scored.extend(map(str, images)), real(self, images))[1]
    )
    with monkeypatch.context() as patched:
        patched.setattr(tasks_batch, where, end)
        with pytest.raises(KeyboardInterrupt):
            score_folder(request, _settings(registered), registered.root)
    assert calls == [where]
    done = score_folder(request, _settings(registered), registered.root)
    assert done.table["score"].notna().sum() == 5
    assert sorted(_logged(tmp_path / "log")["image"]) == sorted(
        str(folder / path) for path in done.table["path"][done.table["score"].notna()]
    )
    # What was kept as a part is not scored again; what was being scored is.
    assert len(scored) == (7 if where == "append_part" else 5)


def test_one_that_fails_among_others_fails_alone(
    registered: PipelineRun, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ProbeCache.image

    def removed_later(probes: ProbeCache, path: Path):
        probe = real(probes, path)
        if path.name == "c.png":
            path.unlink()
        return probe

    monkeypatch.setattr(ProbeCache, "image", removed_later)
    done = score_folder(Request(URI, folder, tmp_path / "out"), _settings(registered), registered.root)
    assert done.scored == 4
    assert "c.png" in done.problems


def test_a_unified_model_scores_as_of_a_category_or_pooled(
    registered: PipelineRun, folder: Path, tmp_path: Path
) -> None:
    paths = sorted((registered.images / "train" / "good").iterdir())
    halves = {"nut": paths[::2], "bolt": paths[1::2]}
    unified = fit_unified(halves, ReConPatch(params=PARAMS | {"modulation.enabled": False}))
    unified.save(tmp_path / "all")
    settings = _settings(registered)
    pooled, nut = (
        score_folder(
            Request(str(tmp_path / "all"), folder, tmp_path / "out", category, log=tmp_path / "log"),
            settings,
            registered.root,
        )
        for category in (None, "nut")
    )
    assert (pooled.scored, nut.scored) == (5, 5)
    paths = list(nut.table["path"][nut.table["score"].notna()])
    wanted = unified.of_category("nut").predict([folder / path for path in paths])
    assert list(nut.table["score"].dropna()) == [one.score for one in wanted]
    logged = read_predictions(tmp_path / "log", model_version=nut.model_version)
    assert logged["category"].value_counts().to_dict() == {"all": 5, "nut": 5}


def test_outputs_do_not_mix(registered: PipelineRun, folder: Path, tmp_path: Path) -> None:
    settings, out = _settings(registered), tmp_path / "out"
    by_uri = score_folder(Request(URI, folder, out), settings, registered.root)
    by_folder = score_folder(Request("detector", folder, out), settings, registered.root)
    assert by_folder.scored == 5  # another version says it all anew
    assert set(by_folder.table["model_version"].dropna()) == {by_folder.model_version} != {VERSION}
    assert list(by_folder.table["score"].dropna()) == list(by_uri.table["score"].dropna())
    with pytest.raises(SettingsError, match="holds what was said of"):
        score_folder(Request(URI, folder / "a", out), settings, registered.root)
    with pytest.raises(SettingsError, match="lies among the images"):
        score_folder(Request(URI, folder, folder / "out"), settings, registered.root)
    with pytest.raises(SettingsError, match="of one category"):
        score_folder(Request(URI, folder, tmp_path / "other", category="nut"), settings, registered.root)
    with file_lock(out / ".lock"), pytest.raises(ReConPatchError, match="another batch writes there"):
        score_folder(Request(URI, folder, out), settings, registered.root)
