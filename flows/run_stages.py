"""Submit every stage of every category and backbone, each after those that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.stage_tasks import stage_task
from reconpatch.settings import Settings
from tasks.champion import Champion
from tasks.job import Job, jobs_of
from tasks.stage import Finished
from tasks.stages import STAGES, Stage
from tasks.update import prepare, update_job


def run_stages(
    settings: Settings, project: Path, outputs: Path, categories: Sequence[str] | None = None
) -> tuple[list[Finished], list[str]]:
    """Run all stages of these categories (None: of all), ``pipeline.concurrency`` at a time.

    Returns:
        The stages whose outputs are current, and a message for each one that failed. A stage that
        waited for a failed one appears in neither.
    """
    futures: dict[tuple[str, str, str | None], PrefectFuture[Any]] = {}
    with ThreadPoolTaskRunner(max_workers=settings.pipeline.concurrency) as runner:
        # Stage by stage, not category by category: a waiting task occupies a worker.
        for stage in STAGES.values():
            run = stage_task(stage.name)
            for job in jobs_of(stage.name, settings, project, outputs, categories):
                before = [
                    futures[_key(upstream, one)]
                    for upstream in _upstream(stage)
                    for one in job.upstream(upstream.name)
                ]
                futures[_key(stage, job)] = runner.submit(run, {"job": job}, wait_for=before)
        states = {key: _wait(future) for key, future in futures.items()}
    finished = [state.result() for state in states.values() if state.is_completed()]
    failures = [
        message
        for (stage, category, backbone), state in states.items()
        for message in failure_of(" ".join(filter(None, (stage, category, backbone))), state)
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


def _key(stage: Stage, job: Job) -> tuple[str, str, str | None]:
    return stage.name, job.category, job.backbone if stage.per_backbone else None


def _wait(future: PrefectFuture[Any]) -> State[Any]:
    future.wait()
    return future.state
