"""Commit dvc.lock and the metrics of finished evaluations to git, under an identity of the flow's own.

For scheduled flows: the history then tells which figures each night gave. Whatever else is staged or
edited in the working tree stays exactly that.
"""

import logging
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from reconpatch.errors import ReConPatchError
from tasks.registry.finished_evaluation import METRICS
from tasks.running.dvc_commit import LOCK
from tasks.running.run_stage import Finished
from tasks.running.stage_table import EVALUATIONS

_NAME, _EMAIL = "reconpatch flow", "flow@localhost"
_IDENTITY = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in (("NAME", _NAME), ("EMAIL", _EMAIL))
}

_PATIENCE_SECONDS = 10.0

_LOG = logging.getLogger(__name__)


def commit_results(finished: Sequence[Finished], project: Path) -> str | None:
    """Commit ``dvc.lock`` and each finished evaluation's ``metrics.json``, and nothing else.

    Args:
        finished: stages of a run that DVC has recorded.
        project: root of the project, in a git repository.

    Returns:
        The new commit's hash; None when HEAD has these files as they are.

    Raises:
        ReConPatchError: the project is in no git repository, or git refuses.
    """
    metrics = [item.evaluation / METRICS for item in finished if item.stage in EVALUATIONS]
    files = [str(path.relative_to(project)) for path in (project / LOCK, *metrics) if path.is_file()]
    return commit_files(files, _message(finished), project)


def commit_files(files: Sequence[str], message: str, project: Path) -> str | None:
    """Commit these files, relative to the project, and nothing else.

    Returns:
        The new commit's hash; None when HEAD has the files as they are.

    Raises:
        ReConPatchError: the project is in no git repository, or git refuses.
    """
    if not files:
        return None
    _refuse_no_repository(project)
    # Stays where the commit is killed, or fails; tells of which machine it was, and since when.
    begun = project / ".cache" / "git_commit"
    if begun.is_file() and begun.read_text(encoding="utf-8") == socket.gethostname():
        _drop_dead_locks(project, begun.stat().st_mtime)
    else:
        begun.parent.mkdir(parents=True, exist_ok=True)
        begun.write_text(socket.gethostname(), encoding="utf-8")
    commit = _commit(files, message, project)
    begun.unlink(missing_ok=True)
    return commit


def _commit(files: Sequence[str], message: str, project: Path) -> str | None:
    # -f: outputs/ is ignored, yet of all that lies there these few bytes belong into the history.
    _git(project, "add", "--force", "--", *files)
    if not _git(project, "diff", "--cached", "--name-only", "--", *files):
        return None
    # --only: other staged changes are a person's work; they stay staged. The flow has no key to sign with.
    _git(project, "commit", "--quiet", "--no-gpg-sign", "--only", "-m", message, "--", *files)
    return _git(project, "rev-parse", "HEAD")


def _drop_dead_locks(project: Path, since: float) -> None:
    """Remove the locks that git has made since a commit of ours began which never ended, where no git runs.

    Others stay: git then fails, and its message says what a person is to do.
    """
    places = _git(project, "rev-parse", "--git-path", ".", "--git-path", "refs/heads").splitlines()
    folder, branches = (project / place for place in places)
    end = time.monotonic() + _PATIENCE_SECONDS
    while _git_runs(project, folder):  # the killed flow's own may be about to end
        if time.monotonic() > end:
            return
        time.sleep(0.1)
    for lock in (folder / "index.lock", folder / "HEAD.lock", *branches.rglob("*.lock")):
        if lock.is_file() and lock.stat().st_mtime >= since:
            _LOG.warning("%s: was left by a commit of this project that was killed; removed", lock)
            lock.unlink(missing_ok=True)


def _git_runs(*folders: Path) -> bool:
    """Whether a git of this machine works in one of the folders, or in one that may not be known."""
    roots = [folder.resolve() for folder in folders]
    for process in psutil.process_iter(["name"]):
        if process.info["name"] != "git":
            continue
        try:
            place = Path(process.cwd())
        except psutil.NoSuchProcess:  # over, or about to be
            continue
        except psutil.AccessDenied:
            return True
        if any(place.is_relative_to(root) or root.is_relative_to(place) for root in roots):
            return True
    return False


def _message(finished: Sequence[Finished]) -> str:
    categories = dict.fromkeys(item.job.category for item in finished)
    dataset = finished[0].job.settings.pipeline.dataset
    return f"Results of {dataset}: {', '.join(categories)}"


def _refuse_no_repository(project: Path) -> None:
    try:
        _git(project, "rev-parse", "--is-inside-work-tree")
    except (OSError, ReConPatchError) as error:
        raise ReConPatchError(
            f"{project}: is in no git repository that can be used ({error}); "
            "run `git init` there, or set pipeline.git_commit to false (of an ingest: ingest.git_commit)"
        ) from None


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "--literal-pathspecs", *arguments],
        cwd=project,
        env={**os.environ, **_IDENTITY},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ReConPatchError(f"git {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()
