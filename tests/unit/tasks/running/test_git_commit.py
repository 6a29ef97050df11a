import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reconpatch.errors import ReConPatchError
from reconpatch.settings import parse_settings
from tasks.running.git_commit import _git_runs, commit_results
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job

METRICS = "outputs/toy/brick/net/evaluate/metrics.json"


def git(root: Path, *arguments: str) -> str:
    person = ("-c", "user.name=person", "-c", "user.email=p@x")
    done = subprocess.run(["git", *person, *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def finished(tmp_path: Path) -> list[Finished]:
    """A finished evaluation, and the stage before it, in a folder without git."""
    settings = parse_settings({"pipeline": {"dataset": "toy", "categories": ["brick"]}})
    job = Job(settings, "brick", "net", tmp_path, tmp_path / "outputs")
    stages = [Finished(name, job, job.folder(name), ran=True) for name in ("calibrate", "evaluate")]
    for stage in stages:
        stage.folder.mkdir(parents=True)
        (stage.folder / "other.txt").write_text("not for git")
    (tmp_path / METRICS).write_text(json.dumps({"image_auroc": 0.9}))
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    return stages


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """With a commit, and a person's staged, edited and untracked files."""
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("/outputs/\n")
    for name in ("staged", "edited"):
        (tmp_path / name).write_text("one")
    git(tmp_path, "add", ".gitignore", "staged", "edited")
    git(tmp_path, "commit", "-q", "-m", "start")
    for name in ("staged", "edited", "untracked"):
        (tmp_path / name).write_text("two")
    git(tmp_path, "add", "staged")
    return tmp_path


def test_lock_and_metrics_alone_are_committed_and_other_changes_stay_as_they_were(
    repository: Path, finished
) -> None:
    before = git(repository, "status", "--porcelain", "staged", "edited", "untracked")
    commit = commit_results(finished, repository)
    assert commit == git(repository, "rev-parse", "HEAD")
    assert git(repository, "show", "--name-only", "--format=", "HEAD").splitlines() == ["dvc.lock", METRICS]
    assert git(repository, "status", "--porcelain", "staged", "edited", "untracked") == before
    assert git(repository, "diff", "--cached", "--name-only") == "staged"
    who = git(repository, "log", "-1", "--format=%an <%ae>|%cn <%ce>|%s")
    flow = "reconpatch flow <flow@localhost>"
    assert who == f"{flow}|{flow}|Results of toy: brick"


def test_nothing_changed_is_no_commit_and_a_new_figure_is_one(repository: Path, finished) -> None:
    first = commit_results(finished, repository)
    assert commit_results(finished, repository) is None
    assert git(repository, "rev-parse", "HEAD") == first
    (repository / METRICS).write_text(json.dumps({"image_auroc": 0.95}))
    commit_results(finished, repository)
    assert git(repository, "show", "--name-only", "--format=", "HEAD") == METRICS


def test_the_first_commit_of_a_repository_may_be_the_flows(tmp_path: Path, finished) -> None:
    git(tmp_path, "init", "-q")
    assert commit_results(finished, tmp_path) == git(tmp_path, "rev-parse", "HEAD")


def test_a_project_in_a_folder_of_a_repository(repository: Path, finished) -> None:
    inner = repository / "line3"
    (inner / "evaluate").mkdir(parents=True)
    (inner / "evaluate" / "metrics.json").write_text("{}")
    commit_results([replace(finished[1], folder=inner / "evaluate")], inner)
    committed = git(repository, "show", "--name-only", "--format=", "HEAD")
    assert committed == "line3/evaluate/metrics.json"


def test_without_git_the_remedy_is_named(tmp_path: Path, finished, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(ReConPatchError, match=r"no git repository .*set pipeline\.git_commit to false"):
        commit_results(finished, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReConPatchError, match=r"no git repository .*set pipeline\.git_commit to false"):
        commit_results(finished, tmp_path)


def test_what_git_refuses_is_told(repository: Path, finished) -> None:
    hook = repository / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not tonight >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ReConPatchError, match=r"git commit failed: not tonight"):
        commit_results(finished, repository)


def test_locks_of_git_that_a_killed_commit_left_are_removed_and_no_others(
    repository: Path, finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = repository / ".git"
    (folder / "index.lock").touch()
    os.utime(folder / "index.lock", (1, 1))
    for _ in range(2):  # it is older than any commit of ours that could have left it
        with pytest.raises(ReConPatchError, match=r"index\.lock.*\n[^$]*remove the file manually"):
            commit_results(finished, repository)
    (folder / "index.lock").unlink()
    commit_results(finished, repository)

    class Killed(BaseException):
        """Nothing of the flow's comes after it."""

    def die(*_: object, **__: object) -> None:
        (folder / "index.lock").touch()
        raise Killed

    (repository / "dvc.lock").write_text("stages: {a: b}\n")
    with monkeypatch.context() as killed:
        killed.setattr("tasks.running.git_commit._commit", die)
        with pytest.raises(Killed):
            commit_results(finished, repository)
    monkeypatch.setattr("tasks.running.git_commit._PATIENCE_SECONDS", 0.0)
    with monkeypatch.context() as busy:
        busy.setattr("tasks.running.git_commit._git_runs", lambda *_: True)
        with pytest.raises(ReConPatchError, match=r"index\.lock"):
            commit_results(finished, repository)
    assert commit_results(finished, repository) == git(repository, "rev-parse", "HEAD")
    assert not (folder / "index.lock").exists()


def test_a_git_at_work_in_the_project_is_seen(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert not _git_runs(repository)
    with subprocess.Popen(
        ["git", "hash-object", "--stdin"], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ):
        assert _git_runs(repository)
        assert not _git_runs(tmp_path_factory.mktemp("other"))
