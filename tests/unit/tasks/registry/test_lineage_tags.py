import subprocess
from pathlib import Path

import pytest

from reconpatch.integrations.mlflow_reproduction import UNKNOWN
from reconpatch.settings import Settings, load_settings
from tasks.registry.lineage_tags import data_hash, lineage


def _git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project under git with nothing uncommitted."""
    for name in ("reconpatch/a.py", "params.yaml", "dvc.lock", "constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_the_commit_and_the_lock_file_are_named(project: Path) -> None:
    tags = lineage(Settings(), project)
    assert tags["git_commit"] == _git(project, "rev-parse", "HEAD")
    assert tags["lock_file_hash"] == "4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865"
    assert all(isinstance(value, str) and value for value in tags.values())


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [
        (None, "false"),
        ("dvc.lock", "false"),
        ("params.yaml", "true"),
        ("reconpatch/a.py", "true"),
        ("reconpatch/new.py", "true"),
    ],
)
def test_dirty_is_about_code_and_parameters(project: Path, changed: str | None, dirty: str) -> None:
    if changed:
        (project / changed).write_text("2\n")
    assert lineage(Settings(), project)["git_dirty"] == dirty


def test_other_parameters_are_another_hash(project: Path) -> None:
    other = load_settings(None, ["modulation.alpha=0.4"])
    assert lineage(Settings(), project)["params_hash"] != lineage(other, project)["params_hash"]


@pytest.mark.parametrize(
    ("file", "root"),
    [("data/tiny.dvc", "data/tiny"), ("data.dvc", "data/tiny"), ("data/tiny.dvc", "data/tiny/part")],
)
def test_the_data_hash_is_that_of_the_nearest_dvc_file(tmp_path: Path, file: str, root: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / file).write_text("outs:\n- md5: abc.dir\n  path: x\n")
    assert data_hash(tmp_path / root, tmp_path) == "abc.dir"


def test_without_git_or_dvc_it_says_unknown(tmp_path: Path) -> None:
    assert data_hash(tmp_path / "data", tmp_path) == UNKNOWN
    assert lineage(Settings(), tmp_path)["git_commit"] == UNKNOWN
