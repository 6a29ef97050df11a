"""The stages' own bodies on a few small images, one after another as the flow calls them."""

import importlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch import ReConPatch, load
from reconpatch.data.manifest import build_manifest, write_manifest
from reconpatch.errors import DataError, ModelError
from reconpatch.integrations.check_report import WARNING, CheckReport, Problem
from reconpatch.model.weights import Weights, find_weights
from reconpatch.settings import parse_settings
from reconpatch.unified.unified_detector import Unified, fit_unified
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.version_tags import version_tags
from tasks.running import read_outputs
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job

NET = "tf_efficientnet_lite0"
LATER = ("train", "coreset", "calibrate")


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job whose stages `validate` and `features` are done."""
    root = tmp_path_factory.mktemp("project")
    images = root / "data" / "tiny" / "nut"
    random = np.random.default_rng(0)
    (images / "train" / "good").mkdir(parents=True)
    for number in range(6):
        pixels = random.integers(90, 140, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images / "train" / "good" / f"{number}.png")
    settings = parse_settings(
        {
            "threads": 1,
            "device": "cpu",
            "features": {"image_size": 64},
            "modulation": {"dim": 16, "projection_dim": 8, "steps": 3, "batch_size": 64},
            "coreset": {"ratio": 0.2},
            "calibrate": {"holdout": 0.3},
            "pipeline": {
                "dataset": "tiny",
                "root": "data/tiny",
                "categories": ["nut"],
                "backbones": [NET],
                "cache": "cache",
            },
        }
    )
    job = Job(settings, "nut", NET, root, root / "outputs")
    job.folder("validate").mkdir(parents=True)
    write_manifest(build_manifest(images, settings.data), job.folder("validate") / "manifest.parquet")
    run("features", job)
    return job


@pytest.fixture
def job(indexed: Job, tmp_path: Path) -> Job:
    """A copy of it that a test may spoil."""
    shutil.copytree(indexed.project, tmp_path / "project")
    return replace(indexed, project=tmp_path / "project", outputs=tmp_path / "project" / "outputs")


def run(stage: str, job: Job) -> None:
    job.folder(stage).mkdir(parents=True)
    importlib.import_module(f"tasks.stages.{stage}").run(job, job.folder(stage))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_images(job: Job) -> None:
    for path in (job.images / "train" / "good").iterdir():
        Image.new("RGB", (64, 64)).save(path)


def test_images_edited_after_features_change_no_later_stage_and_none_loads_the_network(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ReConPatch(settings=job.detector_settings, cache=job.cache).fit(job.images).save(tmp_path / "before")
    edit_images(job)

    def load(*_: object) -> None:
        raise AssertionError("the network was loaded")

    with monkeypatch.context() as patched:
        patched.setattr("reconpatch.features.patch_features.PatchExtractor", load)
        for stage in LATER:
            run(stage, job)
    assert contents(job.folder("calibrate") / "model") == contents(tmp_path / "before")


@pytest.mark.parametrize("stage", ["train", "coreset"])
def test_edited_images_whose_features_left_the_cache_is_refused(job: Job, stage: str) -> None:
    if stage == "coreset":
        run("train", job)
    edit_images(job)
    shutil.rmtree(job.cache)
    with pytest.raises(DataError, match=r"\.png: has changed since its features were indexed"):
        run(stage, job)


def test_features_that_left_the_cache_are_computed_again(job: Job) -> None:
    run("train", job)
    before = contents(job.folder("train") / "head")
    shutil.rmtree(job.cache)
    shutil.rmtree(job.folder("train"))
    run("train", job)
    assert contents(job.folder("train") / "head") == before


def test_a_detector_never_names_other_weights_than_those_of_its_features(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_others(name: str, file: Path | None) -> Weights:
        return replace(find_weights(name, file), sha256="f" * 64)

    for stage in LATER[:-1]:
        run(stage, job)
    monkeypatch.setattr(read_outputs, "find_weights", find_others)
    with pytest.raises(ModelError, match="are not those that the stage `features` used"):
        run("calibrate", job)


def test_an_ensemble_is_the_mean_of_the_backbones_detectors_and_reads_no_training_image(job: Job) -> None:
    nets = [NET, "tf_efficientnet_lite1"]
    pipeline = job.settings.pipeline.model_copy(update={"backbones": tuple(nets), "fuse": ("modified_z",)})
    job = replace(job, settings=job.settings.model_copy(update={"pipeline": pipeline}), backbone=None)
    run("features", job.members[1])
    for one in job.members:
        for stage in LATER:
            run(stage, one)
    test = job.images / "test" / "good"
    test.mkdir(parents=True)
    Image.fromarray(np.full((64, 64, 3), 250, np.uint8)).save(test / "new.png")
    manifest = build_manifest(job.images, job.settings.data)
    write_manifest(manifest, job.folder("validate") / "manifest.parquet")
    run("ensemble", job)
    assert job.folder("ensemble").name == "nut+ensemble"
    ensemble = load(job.folder("ensemble") / "model", threads=1)
    z = []
    for one in job.members:
        member = load(one.folder("calibrate") / "model", threads=1)
        statistics = member.calibration.scores
        z.append(float(statistics.modified_z(member.predict(test / "new.png")[0].score)))
    assert ensemble.predict(test / "new.png")[0].score == pytest.approx(np.mean(z), rel=1e-5)
    assert (job.folder("ensemble") / "evaluation" / "metrics.json").is_file()


def test_the_unified_model_is_that_of_the_library_and_is_measured_on_every_category(
    job: Job, tmp_path: Path
) -> None:
    update = {"categories": ("nut", "bolt"), "unify": (NET,)}
    pipeline = job.settings.pipeline.model_copy(update=update)
    job = replace(job, settings=job.settings.model_copy(update={"pipeline": pipeline}), category="all")
    nut, bolt = job.by_category
    random = np.random.default_rng(1)
    for one, folder, count in ((bolt, "train/good", 6), (nut, "test/good", 2), (bolt, "test/bent", 2)):
        (one.images / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(30, 90 if folder == "train/good" else 250, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(one.images / folder / f"{number}.png")
    for one in (nut, bolt):
        place = one.folder("validate")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        table = build_manifest(one.images, one.settings.data)
        write_manifest(table, place / "manifest.parquet")
        problem = Problem("blur", WARNING, "test/good/0.png", "is blurred")
        CheckReport(True, (problem,) if one is nut else (), ("blur",), len(table)).write(place)
    run("features", bolt)
    known = {one.category: one.images for one in (nut, bolt)}
    unfitted = ReConPatch(settings=job.detector_settings, cache=job.cache)
    fit_unified(known, unfitted).save(tmp_path / "before")
    for path in [*(nut.images / "train" / "good").iterdir(), *(bolt.images / "train" / "good").iterdir()]:
        Image.new("RGB", (64, 64)).save(path)  # features alone reads them
    run("unified", job)

    folder = job.folder("unified")
    files = {path.relative_to(tmp_path / "before"): path for path in (tmp_path / "before").rglob("*")}
    for name, path in files.items():
        assert path.is_dir() or (folder / "model" / name).read_bytes() == path.read_bytes(), name
    model = load(folder / "model", threads=1)
    assert isinstance(model, Unified)
    scores = pd.read_csv(folder / "evaluation" / "scores.csv")
    assert sorted(scores["path"]) == [
        "bolt/test/bent/0.png", "bolt/test/bent/1.png", "nut/test/good/0.png", "nut/test/good/1.png"
    ]  # fmt: skip
    shown = model.predict([job.images / path for path in scores["path"]])
    assert scores["score"].tolist() == pytest.approx([one.score for one in shown], rel=1e-5)
    told = pd.read_csv(folder / "evaluation" / "categories" / "nut" / "scores.csv")
    shown = model.predict([nut.images / path for path in told["path"]], "nut")
    assert told["score"].tolist() == pytest.approx([one.score for one in shown], rel=1e-5)
    assert CheckReport.read(folder / "data").problems == (replace(problem, path="nut/test/good/0.png"),)

    evaluation = FinishedEvaluation.of(Finished("unified", job, folder, ran=True))
    assert evaluation.registered_name == "reconpatch-tiny-all"
    assert evaluation.images == Path("data/tiny")
    tags = version_tags(evaluation)
    assert (tags["n_train"], tags["n_test"], tags["updates"]) == ("12", "4", "0")
    assert int(tags["bank_vectors"]) == len(model.member_parts[0].bank)
