"""The way back: an older data version and its very model, in a fresh clone with the images' remote alone."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch.settings import load_settings
from tasks.running.dvc_commit import commit_stages
from tasks.running.run_stage import run_stage
from tasks.running.stage_folders import jobs_of
from tasks.running.stage_table import STAGES

ROOT = Path(__file__).resolve().parents[2]
METRICS = "outputs/tiny/dents/tf_efficientnet_lite0/evaluate/metrics.json"


def git(project: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@localhost"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout


def run_and_record(project) -> bytes:
    """What the stages have left, recorded by DVC; returns the metrics."""
    settings = load_settings(project.root / "params.yaml")
    jobs = [
        (stage, job)
        for stage in STAGES
        for job in jobs_of(stage, settings, project.root, project.root / "outputs")
    ]
    commit_stages([run_stage(stage, job) for stage, job in jobs], project.root)
    return (project.root / METRICS).read_bytes()


def commit(project, tag: str) -> None:
    """A version of everything in git, and its images in the remote."""
    git(project.root, "add", "--all")
    git(project.root, "add", "--force", METRICS)
    git(project.root, "commit", "-qm", tag)
    git(project.root, "tag", tag)
    project.dvc("push", "-q")


@pytest.mark.slow
def test_an_older_data_version_gives_the_older_model_again(make_project, tmp_path: Path) -> None:
    project = make_project(plain=False, trained=True)
    shutil.copy(ROOT / ".gitignore", project.root)
    project.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    older = run_and_record(project)
    record = (project.root / "dvc.lock").read_bytes()
    commit(project, "one")
    for number in range(4):
        pixels = np.random.default_rng(number).integers(60, 120, (72, 72, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(project.root / f"data/tiny/dents/train/good/more{number}.png")
    project.dvc("add", "-q", "data/tiny")
    commit(project, "two")

    clone = type(project)(tmp_path / "clone")
    git(tmp_path, "clone", "-q", str(project.root), str(clone.root))
    shutil.move(project.root, tmp_path / "gone")
    git(clone.root, "checkout", "-q", "one")
    assert not (clone.root / ".dvc/cache").exists()
    assert not (clone.root / "data/tiny").exists()
    (clone.root / METRICS).unlink()
    clone.dvc("pull", "data/tiny.dvc")
    assert len(list((clone.root / "data/tiny/dents/train/good").iterdir())) == 12
    done = clone.dvc("repro")
    for stage in ("validate", "features", "train", "coreset", "calibrate", "evaluate"):
        assert f"Running stage '{stage}@dents" in done
    assert (clone.root / METRICS).read_bytes() == older
    # Not the figures alone: every output has the hash that the older run recorded.
    assert (clone.root / "dvc.lock").read_bytes() == record
    assert git(clone.root, "status", "--porcelain") == ""
