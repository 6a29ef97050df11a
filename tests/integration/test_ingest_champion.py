"""Ingest with a real champion of the registry: what it finds suspicious, and what it was calibrated with."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from finished_runs import PipelineRun
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.data.reviews import Review, append_review
from reconpatch.storage.atomic_files import sha256_file
from tasks.operations.ingest import ingest
from tasks.registry.register import register_run

PARAMS = {
    "features.image_size": 64, "modulation.enabled": False, "coreset.ratio": 0.2, "calibrate.holdout": 0.4,
    "threads": 1, "device": "cpu",
}  # fmt: skip


def texture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 140, (64, 64, 3)).astype(np.uint8)


@pytest.fixture
def project(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    """A data set under DVC and git, and a champion fitted on six of its ten images."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    good = tmp_path / "data/tiny/nut/train/good"
    good.mkdir(parents=True)
    for number in range(10):
        Image.fromarray(texture(number)).save(good / f"{number}.png")
    detector = tmp_path / "detector"
    ReConPatch(params=PARAMS).fit(tmp_path / "data/tiny/nut").save(detector)
    run = PipelineRun(tmp_path, detector=detector, images=tmp_path / "data/tiny/nut")
    (model,) = register_run(run.settings(), [run.finish()])
    assert "champion" in model.aliases
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "add", "-q", "data/tiny"],
    ):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    return run


def test_the_champion_puts_aside_a_defect_with_a_heat_map_and_keeps_what_calibrates_it(
    project: PipelineRun,
) -> None:
    root, good = project.root, project.images / "train/good"
    held = set(ReConPatch.load(project.detector).training_set.holdout)
    inbox = root / "inbox/nut"
    inbox.mkdir(parents=True)
    of_fit, of_holdout = (
        next(path for path in sorted(good.iterdir()) if (sha256_file(path) in held) is wanted)
        for wanted in (False, True)
    )
    usual = np.asarray(Image.open(of_fit)).copy()
    usual[0, 0] ^= 1  # another image, and sure to be like those that the bank knows
    Image.fromarray(usual).save(inbox / "usual.png")
    dented = usual.copy()
    dented[20:44, 20:44] = 255
    Image.fromarray(dented).save(inbox / "dented.png")
    near = np.asarray(Image.open(of_holdout)).copy()
    near[0, 0] ^= 1
    Image.fromarray(near).save(inbox / "near.png")
    shutil.copy(of_holdout, inbox / "held.png")
    digest = sha256_file(inbox / "dented.png")

    settings = project.settings(
        "ingest.settle_seconds=0",
        "ingest.suspicious=reject",
        "ingest.most_false_rejects=1",  # of a champion that is calibrated on four images
        "calibrate.holdout=0",
        "device=cpu",
    )
    (batch,) = ingest(settings, "nut", root)
    assert (batch.count, batch.quarantined) == (1, 3)
    assert (good / f"arrivals-{batch.batch}/usual.png").is_file()
    aside = root / "quarantine/tiny/nut"
    kept = {
        record["name"]: record for path in aside.glob("*.json") for record in [json.loads(path.read_text())]
    }
    assert {name: record["reason"] for name, record in kept.items()} == {
        "dented.png": "suspicious", "near.png": "calibration", "held.png": "calibration",
    }  # fmt: skip
    suspicious = kept["dented.png"]
    assert suspicious["judge"] == "reconpatch-tiny-nut/1"
    assert "above the nominal limit" in suspicious["detail"]
    assert {record["heatmap"] for record in kept.values()} == {"dented.png", "near.png", "held.png"}
    assert {path.name for path in (aside / "heatmaps").iterdir()} == {"dented.png", "near.png", "held.png"}
    with Image.open(aside / "heatmaps" / suspicious["heatmap"]) as heatmap:
        assert heatmap.size == (64, 64)

    append_review(root / "reviews.jsonl", Review(image_sha256=digest, verdict="good", who="Ann"))
    (batch,) = ingest(settings, "nut", root)
    assert (batch.count, batch.quarantined) == (1, 0)
    assert sha256_file(good / f"arrivals-{batch.batch}/dented.png") == digest
    assert {path.name.partition("-")[0] for path in aside.glob("*.json")} == {"near", "held"}
    assert {path.name for path in (aside / "heatmaps").iterdir()} == {"near.png", "held.png"}


def test_what_a_champion_of_four_calibrating_images_finds_odd_joins_and_is_to_be_looked_at(
    project: PipelineRun, caplog: pytest.LogCaptureFixture
) -> None:
    root = project.root
    dented = texture(0)
    dented[20:44, 20:44] = 255
    (root / "inbox/nut").mkdir(parents=True)
    Image.fromarray(dented).save(root / "inbox/nut/dented.png")
    (batch,) = ingest(project.settings("ingest.settle_seconds=0", "device=cpu"), "nut", root)
    assert (batch.count, batch.flagged, batch.quarantined) == (1, 1, 0)
    (record,) = (root / "quarantine/tiny/nut").glob("*.json")
    kept = json.loads(record.read_text())
    assert (kept["reason"], kept["judge"]) == ("flagged", "reconpatch-tiny-nut/1")
    assert record.with_suffix("").read_bytes()
    assert (root / "quarantine/tiny/nut/heatmaps" / kept["heatmap"]).is_file()
    (told,) = [text for text in caplog.messages if "ingest.most_false_rejects" in text]
    assert "is calibrated on 4 groups, and 40 % of good images exceed its limit" in told
    assert "no arrival waits for its score" in told
    assert "19 groups would do" in told
