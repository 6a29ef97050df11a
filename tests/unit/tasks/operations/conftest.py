"""A data set under DVC and git that images arrive for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_inbox import picture


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `project` copies: starting DVC takes seconds."""
    root = tmp_path_factory.mktemp("template") / "project"
    for name in ("train/good/part1_a", "train/good/part2_a", "train/good/part3_a"):
        picture(root / f"data/toy/nut/{name}.png", name)
    for name in ("test/good/part7_a", "test/good/part8_a"):
        picture(root / f"data/toy/nut/{name}.png", name)
    (root / "inbox" / "nut").mkdir(parents=True)
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "add", "-q", "data/toy"],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A data set of three training and two test images under DVC and git, and an empty inbox."""
    return Path(shutil.copytree(template, tmp_path / "project", symlinks=True))
