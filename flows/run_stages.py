"""Submit every stage of every category and backbone, each after those that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.runners import task_runner
from flows.stage_tasks import part_task, stage_task
from reconpatch.settings import Settings
from tasks.champion import Champion
from tasks.job import Job, jobs_of
from tasks.sharing import bring, send_images
from tasks.stage import Finished
from tasks.stages import STAGES, Stage
from tasks.update import prepare, update_job

_Key = tuple[str, str, str | None]
SPREAD = ("features", "coreset")  # stages whose work can go ahead in parts


def run_stages(
    settings: Settings, project: Path, outputs: Path, categories: Sequence[str] | None = None
) -> tuple[list[Finished], list[str]]:
    """Run all stages of these categories (None: of all), ``pipeline.concurrency`` at a time.

    Returns:
        The stages whose outputs are current, and a message for each one that failed. A stage that
        waited for a failed one appears in neither.
    """
    futures: dict[_Key, PrefectFuture[Any]] = {}
    parts: dict[_Key, PrefectFuture[Any]] = {}
    images = _send_images(settings, project, outputs, categories)
    with task_runner(settings) as runner:
        # Stage by stage, not category by category: a waiting task occupies a worker.
        for stage in STAGES.values():
            for job in jobs_of(stage.name, settings, project, outputs, categories):
                before = [
                    futures[_key(upstream.name, one, upstream.per_backbone)]
                    for upstream in _upstream(stage)
                    for one in job.upstream(upstream.name)
                ]
                given = {"job": job, "before": before, "images": images}
                ahead = _submit_parts(runner, stage, given)
                parts |= ahead
                given["before"] = [*before, *ahead.values()]
                key = _key(stage.name, job, stage.per_backbone)
                futures[key] = runner.submit(stage_task(stage.name), given)
        states = {key: _wait(future) for key, future in {**parts, **futures}.items()}
    finished = [states[key].result() for key in futures if states[key].is_completed()]
    bring(finished)
    failures = [message for key, state in states.items() for message in failure_of(_name(key), state)]
    if not failures:  # a cluster that loses a task tells no error
        failures = [
            f"{_name(key)}: did not end ({state.name})"
            for key, state in states.items()
            if not state.is_completed()
        ]
    return finished, failures


def run_update(settings: Settings, project: Path, champion: Champion) -> tuple[list[Finished], list[str]]:
    """Update a champion with its category's new images, and evaluate what comes out.

    Returns:
        As `run_stages`.
    """
    job = update_job(settings, project, champion)
    fetched = fetch(job, champion, return_state=True)
    finished: list[Finished] = []
    failures = failure_of(f"fetch {job}", fetched)
    for name in () if failures else ("validate", "update", "evaluate"):
        state = stage_task(name)(fetched.result(), return_state=True)
        failures = failure_of(f"{name} {job}", state)
        if failures:
            break
        finished.append(state.result())
    return finished, failures


@task(name="fetch champion", cache_policy=NO_CACHE, persist_result=False)
def fetch(job: Job, champion: Champion) -> Job:
    """Copy the champion from the registry to the update's folder."""
    return prepare(job, champion)


def failure_of(what: str, state: State[Any]) -> list[str]:
    """The message of a failed or crashed task, or nothing."""
    if not (state.is_failed() or state.is_crashed()):
        return []
    error = state.result(raise_on_failure=False)
    return [f"{what}: {error}"]


def _upstream(stage: Stage) -> list[Stage]:
    names = dict.fromkeys(reference.partition("/")[0] for reference in stage.upstream)
    if stage.fuses:
        names["evaluate"] = None  # DVC sees the category's whole folder as its input
    return [STAGES[name] for name in names]


def _send_images(
    settings: Settings, project: Path, outputs: Path, categories: Sequence[str] | None
) -> dict[str, str | None]:
    jobs = jobs_of("validate", settings, project, outputs, categories)
    return {job.category: send_images(job) for job in jobs}


def _submit_parts(
    runner: TaskRunner[Any], stage: Stage, given: dict[str, Any]
) -> dict[_Key, PrefectFuture[Any]]:
    """The shares of a stage's work that go ahead of it, side by side, where the parameters ask for some."""
    job: Job = given["job"]
    count = job.settings.pipeline.parts
    if count == 1 or stage.name not in SPREAD:
        return {}
    run = part_task(stage.name)
    return {
        _key(f"{stage.name} part {number}", job): runner.submit(run, {**given, "number": number})
        for number in range(count)
    }


def _key(name: str, job: Job, per_backbone: bool = True) -> _Key:
    return name, job.category, job.backbone if per_backbone else None


def _name(key: _Key) -> str:
    return " ".join(filter(None, key))


def _wait(future: PrefectFuture[Any]) -> State[Any]:
    future.wait()
    return future.state
