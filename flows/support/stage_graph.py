"""Submit every stage of every category and backbone, each after those that it reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from flows.support.prefect_states import failure_of
from flows.support.stage_tasks import part_task, stage_task
from flows.support.task_graph import Futures, Key, Node, Outcome, run_graph
from flows.support.task_runners import task_runner
from reconpatch.settings import Settings
from tasks.registry.champion import Champion
from tasks.running.folder_transfer import bring, send_images
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job, jobs_of
from tasks.running.stage_table import STAGES, Stage
from tasks.stages.update import prepare, update_job

SPREAD = ("features", "coreset")  # stages whose work can go ahead in parts
_NOT_RUN = "  not run because of it: "


def run_stages(
    settings: Settings, project: Path, outputs: Path, categories: Sequence[str] | None = None
) -> tuple[list[Finished], list[str]]:
    """Run all stages of these categories (None: of all), ``pipeline.concurrency`` at a time.

    Returns:
        The stages whose outputs are current, and a message for each failed stage, which also names the stages
        that needed it and were not run.
    """
    images = _send_images(settings, project, outputs, categories)
    with task_runner(settings) as runner:
        # Stage by stage, not category by category: all categories come equally far.
        nodes = [
            node
            for stage in STAGES.values()
            for job in jobs_of(stage.name, settings, project, outputs, categories)
            for node in _nodes(runner, stage, job, images)
        ]
        outcome = run_graph(nodes)
    stages = [state for key, state in outcome.states.items() if key[0] in STAGES]
    finished = [state.result() for state in stages if state.is_completed()]
    bring(finished)
    return finished, [_failure(outcome, key) for key in outcome.not_run]


def run_update(settings: Settings, project: Path, champion: Champion) -> tuple[list[Finished], list[str]]:
    """Update a champion with its category's new images, and evaluate what comes out.

    Returns:
        As `run_stages`.
    """
    job = update_job(settings, project, champion)
    fetched = fetch(job, champion, return_state=True)
    finished: list[Finished] = []
    failures = failure_of(f"fetch {job}", fetched)
    left = ["validate", "update", "evaluate"]
    while left and not failures:
        name = left.pop(0)
        # To mypy the `...` of the task's type takes `return_state` for an argument of the stage.
        state = cast("State[Finished]", stage_task(name)(fetched.result(), return_state=True))
        failures = failure_of(f"{name} {job}", state)
        if not failures:
            finished.append(state.result())
    if failures and left:
        failures = [f"{failures[0]}\n{_NOT_RUN}{', '.join(left)} ({job})"]
    return finished, failures


@task(name="fetch champion", cache_policy=NO_CACHE, persist_result=False)
def fetch(job: Job, champion: Champion) -> Job:
    """Copy the champion from the registry to the update's folder."""
    return prepare(job, champion)


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


def _nodes(runner: TaskRunner[Any], stage: Stage, job: Job, images: dict[str, str | None]) -> list[Node]:
    """A stage behind those that it reads, and behind the shares of its work that the parameters ask for."""
    before = tuple(
        _key(upstream.name, one, upstream.per_backbone)
        for upstream in _upstream(stage)
        for one in job.upstream(upstream.name)
    )

    def node(key: Key, run: Task[..., Any], after: tuple[Key, ...], **more: Any) -> Node:
        def submit(futures: Futures) -> PrefectFuture[Any]:
            # As futures, so that Prefect knows what came from what.
            given = {"job": job, "before": [futures[one] for one in after], "images": images, **more}
            future: PrefectFuture[Any] = runner.submit(run, given)
            return future

        return Node(key, after, submit)

    count = job.settings.pipeline.parts
    parts = [
        node(_key(f"{stage.name} part {number}", job), part_task(stage.name), before, number=number)
        for number in range(count if count > 1 and stage.name in SPREAD else 0)
    ]
    after = (*before, *(part.key for part in parts))
    return [*parts, node(_key(stage.name, job, stage.per_backbone), stage_task(stage.name), after)]


def _failure(outcome: Outcome, key: Key) -> str:
    """The message of a task that did not complete; its last line names the tasks that needed it."""
    state, name = outcome.states[key], _name(key)
    # A cluster that loses a task tells no error.
    (line,) = failure_of(name, state) or [f"{name}: did not end ({state.name})"]
    left: dict[str, list[str]] = {}
    for stage, *job in outcome.not_run[key]:
        left.setdefault(", ".join(filter(None, job)), []).append(stage)
    listed = [f"{', '.join(stages)} ({job})" for job, stages in left.items()]
    return f"{line}\n{_NOT_RUN}{'; '.join(listed)}" if listed else line


def _key(name: str, job: Job, per_backbone: bool = True) -> Key:
    return name, job.category, job.backbone if per_backbone else None


def _name(key: Key) -> str:
    return " ".join(filter(None, key))
