"""The stages as Prefect tasks."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.utilities.timeout import timeout

from flows.support import project_locks
from flows.support.check_artifacts import publishing
from flows.support.retries import retry
from reconpatch.errors import ReConPatchError
from tasks.running.run_on_worker import ImageTrees, run_on_worker, run_part_on_worker
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job
from tasks.running.stage_table import stage_or_variant


@dataclass(frozen=True)
class TryLimits:
    """How often a stage is tried again, and how many hours one try may take."""

    retries: int
    hours: float


# Tried again are those that read images and features, which may lie on a file server; train and coreset start
# from what features left in the cache. A stage that hangs must not hold its category's lock for the night.
TRY_LIMITS = {
    "validate": TryLimits(3, 4),
    "features": TryLimits(3, 24),
    "train": TryLimits(2, 12),
    "coreset": TryLimits(2, 12),
    "calibrate": TryLimits(2, 6),
    "update": TryLimits(3, 6),
    "evaluate": TryLimits(3, 12),
    "ensemble": TryLimits(3, 12),
    "unified": TryLimits(3, 24),
}


def stage_task(name: str) -> Task[..., Finished]:
    """The Prefect task of a stage; the record in its output folder, not Prefect, decides what is done.

    Its arguments: the job, what the stages before it finished, and by category the images' digest in the
    shared store.
    """

    @task(name=name, task_run_name=f"{name} {{job}}", **_options(name))
    def run(job: Job, before: Sequence[Finished | None] = (), images: ImageTrees | None = None) -> Finished:
        with _in_time(name, job), publishing(name, job):
            return run_on_worker(name, job, before, images, around=lambda: _device_lock(name, job))

    return run


def part_task(name: str) -> Task[..., None]:
    """The Prefect task of a share of a stage's work, done ahead of it: its result waits in a cache."""

    @task(name=f"{name} part", task_run_name=f"{name} {{job}} part {{number}}", **_options(name))
    def run(
        job: Job, number: int, before: Sequence[Finished | None] = (), images: ImageTrees | None = None
    ) -> None:
        with _in_time(name, job):
            run_part_on_worker(name, job, number, before, images, around=lambda: _device_lock(name, job))

    return run


def _options(name: str) -> dict[str, Any]:
    limits = TRY_LIMITS[name]
    return {
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": limits.retries,
        "retry_delay_seconds": [10 * 3**i for i in range(limits.retries)],
        "retry_condition_fn": retry,
    }


class _OverdueError(TimeoutError):
    """The limit's own, so that no other time-out passes for it."""


@contextmanager
def _in_time(name: str, job: Job) -> Iterator[None]:
    """End a stage that is longer at work than its limit, between two operations.

    As ``timeout_seconds`` of the task would, which Prefect takes for a mistake of every task that runs in a
    thread and warns of at each start.

    Raises:
        ReConPatchError: the time is over.
    """
    hours = TRY_LIMITS[name].hours
    try:
        with timeout(hours * 3600, _OverdueError):
            yield
    except _OverdueError:
        raise ReConPatchError(
            f"{name} ({job}): was not done within {hours:g} hours and was ended; look at what it waits for, "
            "or allow it more in TRY_LIMITS of flows/support/stage_tasks.py"
        ) from None


def _device_lock(name: str, job: Job) -> AbstractContextManager[None]:
    if "device" not in stage_or_variant(name).params or job.settings.device == "cpu":
        return nullcontext()
    from reconpatch.device import choose_device

    device = choose_device(job.settings.device)
    if device.type != "cuda":
        return nullcontext()
    return project_locks.hold(project_locks.gpu(device.index), job.project)
