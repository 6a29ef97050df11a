"""The stages as Prefect tasks."""

from contextlib import AbstractContextManager, nullcontext

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from flows import slots
from tasks.job import Job
from tasks.stage import Finished, run_stage
from tasks.stages import STAGES, VARIANTS


def stage_task(name: str) -> Task[[Job], Finished]:
    """The Prefect task of a stage; the record in its output folder, not Prefect, decides what is done."""

    @task(name=name, task_run_name=f"{name} {{job}}", cache_policy=NO_CACHE, persist_result=False)
    def run(job: Job) -> Finished:
        return run_stage(name, job, around=lambda: _device_slot(name, job))

    return run


def _device_slot(name: str, job: Job) -> AbstractContextManager[None]:
    if "device" not in (VARIANTS.get(name) or STAGES[name]).params or job.settings.device == "cpu":
        return nullcontext()
    from reconpatch.device import choose_device

    if choose_device(job.settings.device).type != "cuda":
        return nullcontext()
    return slots.hold(slots.GPU)
