"""The stages as Prefect tasks."""

import errno
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from flows import slots
from flows.checks import publishing
from tasks.job import Job
from tasks.stage import Finished, run_stage
from tasks.stages import stage_or_variant


@dataclass(frozen=True)
class Limits:
    """How often a stage is tried again, and how many hours one try may take."""

    retries: int
    hours: float


# Tried again are those that read images and features, which may lie on a file server; train and coreset start
# from what features left in the cache. A stage that hangs must not hold its category's slot for the night.
LIMITS = {
    "validate": Limits(3, 4),
    "features": Limits(3, 24),
    "train": Limits(2, 12),
    "coreset": Limits(2, 12),
    "calibrate": Limits(2, 6),
    "update": Limits(3, 6),
    "evaluate": Limits(3, 12),
    "ensemble": Limits(3, 12),
}
# A file server that is away for a moment. A full disk is not among them: trying again does not empty it.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH}


def may_pass(error: BaseException | None) -> bool:
    """Whether the cause of an error, however it was told on the way, is one that may be gone soon."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def stage_task(name: str) -> Task[[Job], Finished]:
    """The Prefect task of a stage; the record in its output folder, not Prefect, decides what is done."""
    limits = LIMITS[name]

    @task(
        name=name,
        task_run_name=f"{name} {{job}}",
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=limits.retries,
        retry_delay_seconds=[10 * 3**i for i in range(limits.retries)],
        retry_condition_fn=lambda _task, _run, state: may_pass(state.result(raise_on_failure=False)),
        timeout_seconds=limits.hours * 3600,
    )
    def run(job: Job) -> Finished:
        with publishing(name, job):
            return run_stage(name, job, around=lambda: _device_slot(name, job))

    return run


def _device_slot(name: str, job: Job) -> AbstractContextManager[None]:
    if "device" not in stage_or_variant(name).params or job.settings.device == "cpu":
        return nullcontext()
    from reconpatch.device import choose_device

    if choose_device(job.settings.device).type != "cuda":
        return nullcontext()
    return slots.hold(slots.GPU)
