"""Record finished stages with DVC, after making sure that they are what params.yaml and the files say.

`dvc commit -f` believes whatever lies there. So every input and output is hashed again first and
compared with the stage's record, and dvc.lock is put back if anything moved while DVC read it, or
whatever else kept the commit from ending.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from reconpatch.errors import ReConPatchError
from reconpatch.settings import load_settings
from tasks.running.content_hashes import Hasher, hasher_of
from tasks.running.full_disk import told_of_a_full_disk
from tasks.running.living_process import is_gone
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import PARAMS, Job
from tasks.running.stage_record import changed_inputs, collect_inputs, hash_outputs, read_record
from tasks.running.stage_table import EVALUATIONS, STAGES

LOCK = "dvc.lock"
_BUSY = "it is being blocked by"
_TORN_SECONDS = 10.0
_UNRECORDED = Path(".cache") / "unrecorded"


class CommitRefusedError(ReConPatchError):
    """Outputs do not belong to the parameters, code and data that lie there now."""


class DvcBusyError(ReConPatchError):
    """Another process holds DVC's lock; trying again later helps."""


def commit_stages(finished: Sequence[Finished], project: Path) -> list[str]:
    """Write the finished stages of one run to dvc.lock.

    Args:
        finished: stages of a run with the parameters of params.yaml.
        project: root of the project, where dvc.yaml lies.

    Returns:
        Names of the stages that dvc.lock did not know in this state, as dvc.yaml has them.

    Raises:
        CommitRefusedError: an input or an output changed since its stage ran; all are named.
        DvcBusyError: DVC's lock is taken.
        FullDiskError: there is no room for dvc.lock.
    """
    names = [dvc_name(item) for item in finished]
    if not names:
        return []
    _refuse_changes(finished, project)
    with told_of_a_full_disk(LOCK):
        pending = _out_of_date(names, project)
    if not pending:
        return []
    with told_of_a_full_disk(LOCK), _all_or_nothing(project):
        run_dvc(project, "commit", "--force", *pending)  # with --quiet it would not say why it fails
        _refuse_changes(finished, project)
    return pending


def note_unrecorded(dataset: str, categories: Sequence[str], project: Path) -> None:
    """Before a run that will record these categories: whatever ends it, `unrecorded` names them."""
    for category in categories:
        path = project / _UNRECORDED / dataset / category
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def unrecorded(dataset: str, project: Path) -> set[str]:
    """Categories whose last run has not recorded all with DVC."""
    folder = project / _UNRECORDED / dataset
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def forget_unrecorded(finished: Sequence[Finished], project: Path) -> None:
    """Categories of which all is recorded now: their last stage was among those recorded."""
    for item in finished:
        if item.stage in EVALUATIONS:
            dataset = item.job.settings.pipeline.dataset
            (project / _UNRECORDED / dataset / item.job.category).unlink(missing_ok=True)


def dvc_name(finished: Finished) -> str:
    """The stage's name in dvc.yaml, such as ``train@bottle-tf_efficientnet_lite0``."""
    parts = [] if STAGES[finished.stage].unifies else [finished.job.category]
    if STAGES[finished.stage].per_backbone:
        parts.append(str(finished.job.backbone))
    if STAGES[finished.stage].fuses:
        parts += finished.job.settings.pipeline.fuse
    return f"{finished.stage}@{'-'.join(parts)}"


def find_changes(finished: Finished, project: Path, hasher: Hasher) -> list[str]:
    """Inputs and outputs of a stage that are no longer what its record says; empty when none."""
    stage, job = STAGES[finished.stage], finished.job
    record = read_record(finished.folder)
    if record is None:
        return ["its record is missing"]
    now: Job = replace(job, settings=load_settings(project / PARAMS))
    try:
        changes = changed_inputs(record["inputs"], collect_inputs(stage, now, hasher))
        if hash_outputs(finished.folder, stage, hasher) != record["outputs"]:
            changes.append("its outputs")
    except FileNotFoundError as error:
        return [f"{error.filename} is missing"]
    return changes


def _refuse_changes(finished: Sequence[Finished], project: Path) -> None:
    hasher = hasher_of(project)
    lines = []
    for item in finished:
        changes = find_changes(item, project, hasher)
        if changes:
            lines.append(f"  {dvc_name(item)}: {', '.join(changes)}")
    if lines:
        raise CommitRefusedError(
            "nothing was recorded with DVC, for these changed since their stages ran; run the flow again:\n"
            + "\n".join(lines)
        )


def _out_of_date(names: Sequence[str], project: Path) -> list[str]:
    """The stages that dvc.lock knows in another state or not at all; asking is cheap, committing is not."""
    status = json.loads(run_dvc(project, "status", "--json", *names))
    return [name for name in names if name in status]


def run_dvc(project: Path, *arguments: str) -> str:
    """Run dvc in the project and return what it printed.

    Raises:
        DvcBusyError: DVC's lock is taken.
        ReConPatchError: dvc failed; the message is its own.
    """
    _drop_dead_locks(project / ".dvc" / "tmp" / "rwlock")
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=project,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if _BUSY in done.stderr:
        raise DvcBusyError(f"dvc {arguments[0]}: {done.stderr.strip()}")
    if done.returncode:
        raise ReConPatchError(f"dvc {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _drop_dead_locks(path: Path) -> None:
    """Remove DVC's list of locks where a full disk tore it, or where all that stand in it are gone.

    Every dvc command refuses a torn one. Of the others DVC asks no more than whether there are processes with
    such numbers; after a power cut there may be, and they are others.
    """
    try:
        written = path.stat().st_mtime
        holders = json.loads(path.read_bytes())
        readers = [one for found in holders.get("read", {}).values() for one in found]
        pids = [int(one["pid"]) for one in (*holders.get("write", {}).values(), *readers)]
        dead = bool(pids) and all(is_gone(pid, written) for pid in pids)
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError):
        dead = True
    if dead and time.time() - written > _TORN_SECONDS:  # nobody is writing it
        path.unlink(missing_ok=True)


@contextmanager
def _all_or_nothing(project: Path) -> Iterator[None]:
    """Around a commit: half a run must not stay recorded. The copy is made while there is room."""
    lock, kept = project / LOCK, project / ".cache" / f"{LOCK}.before"
    if there := lock.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lock, kept)
    try:
        yield
    except BaseException:  # Ctrl-C too
        if there:
            kept.replace(lock)
        else:
            lock.unlink(missing_ok=True)
        raise
    kept.unlink(missing_ok=True)
