"""Run one stage: skip what is done, leave a complete folder or none."""

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import atomic_folder, remove_abandoned, write_json
from reconpatch.storage.file_locks import file_lock
from tasks.running.content_hashes import hasher_of
from tasks.running.full_disk import told_of_a_full_disk
from tasks.running.source_code import refuse_changed_code
from tasks.running.stage_folders import Job
from tasks.running.stage_record import collect_inputs, is_done, write_record
from tasks.running.stage_table import STAGES, Stage, stage_or_variant

# How long it took is no output: it differs from run to run, so no record and no DVC knows this file.
TIMINGS = "timings.json"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished:
    """A stage whose outputs are complete and current.

    Attributes:
        stage: its name.
        job: what it was run for.
        folder: its output folder.
        ran: False when the outputs were there already.
        tree: digest of the folder in the shared store; None where there is none.
    """

    stage: str
    job: Job
    folder: Path
    ran: bool
    tree: str | None = None

    @property
    def evaluation(self) -> Path:
        """Where the figures lie, of a stage that ends with some."""
        return self.folder / "evaluation" if STAGES[self.stage].evaluates_itself else self.folder


def run_stage(
    name: str, job: Job, around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Finished:
    """Bring a stage's outputs up to date.

    The stage's body ``tasks.stages.<name>.run(job, folder) -> dict`` writes into a folder beside the real
    one, which it replaces when all is there; what it returns is kept in timings.json.

    Args:
        name: of the stage or of a variant, whose outputs lie in the stage's folder.
        job: what to run it for.
        around: gives what must be held while the body runs, such as the lock of a GPU.

    Raises:
        DataError: an input of the stage is missing.
        FullDiskError: there is no room for its outputs.
        CodeChangedError: the stage's code was edited since this process started.
        ReConPatchError: whatever the body raises; the old outputs are left as they were.
    """
    stage, hasher = stage_or_variant(name), hasher_of(job.project)
    folder = job.folder(stage.name)
    with told_of_a_full_disk(f"{name} ({job}): its outputs"), _alone(folder):
        try:
            inputs = collect_inputs(stage, job, hasher)
        except FileNotFoundError as error:
            raise DataError(f"{name} ({job}): {_missing(stage, job, Path(error.filename))}") from None
        if is_done(folder, stage, inputs, hasher):
            hasher.remember()
            _LOG.info("%s (%s): up to date", name, job)
            return Finished(name, job, folder, ran=False)
        refuse_changed_code(inputs["code"], job.project)
        body = importlib.import_module(f"tasks.stages.{name}").run
        with around(), atomic_folder(folder) as temporary:
            start = time.perf_counter()
            timings = body(job, temporary)
            write_record(temporary, stage, inputs, hasher)
            seconds = time.perf_counter() - start
            write_json(temporary / TIMINGS, {"seconds": round(seconds, 3), **timings})
        hasher.remember()
    _LOG.info("%s (%s): done in %.1f s", name, job, seconds)
    return Finished(name, job, folder, ran=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the stage's lock: a second process waits, then finds the work done.

    What a killed process left half written is removed.
    """
    with file_lock(folder.parent / f".{folder.name}.lock"):
        remove_abandoned(folder)
        yield


def _missing(stage: Stage, job: Job, path: Path) -> str:
    if path in [one.images for one in job.by_category]:
        return f"{path}: no such folder of images; correct pipeline.root and pipeline.categories"
    for reference in stage.upstream:
        upstream = reference.partition("/")[0]
        if any(path.is_relative_to(one.folder(upstream)) for one in job.upstream(upstream)):
            return f"{path}: is missing; run the stage `{upstream}` first"
    return f"{path}: is missing; put it back"
