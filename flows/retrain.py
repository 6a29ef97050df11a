"""The retraining flow: new nominal images since the champion become a candidate, or nothing happens.

python -m flows.retrain [--category NAME ...]
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE

from flows.support import project_locks
from flows.support.category_choice import choose_categories
from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_states import completed, failure_of
from flows.support.register_and_commit import nominate, record, register
from flows.support.retrain_notice import Outcome, publish
from flows.support.retries import RETRY_REGISTRY
from flows.support.stage_graph import run_stages, run_update
from reconpatch.settings import Settings, load_settings
from tasks.operations.image_changes import ImageChanges, find_image_changes
from tasks.registry.registered_model import RegisteredModel
from tasks.running.dvc_commit import note_unrecorded, unrecorded
from tasks.running.run_stage import Finished
from tasks.running.source_code import note_code
from tasks.running.stage_folders import PARAMS, PROJECT, outputs_folder
from tasks.running.stage_table import EVALUATIONS
from tasks.running.typer_commands import Categories, run_command


@flow(name="retrain", on_running=[note_process])
def retrain(categories: Sequence[str] = (), project: Path = PROJECT) -> list[Outcome]:
    """Bring a candidate up to date with the images; a person or the gate's policy decides about the champion.

    Nothing is done for a category without images that its champion does not know. Two retrains of one
    category never run at the same time; those of different categories do.

    Args:
        categories: some of ``pipeline.categories``; none: all.
        project: root of the project.

    Returns:
        One outcome a category. The flow run's own message says the same in words.

    Raises:
        SettingsError: there is no such category.
        FlowFailedError: finding the changes, a stage, the registration, the gate or the commit failed; what
            could be done for the other categories was.
    """
    settings = load_settings(project / PARAMS)
    chosen = choose_categories(settings, categories)
    note_code(project)
    failures: list[str] = []
    changed = [_find_changes(settings, project, category, failures) for category in chosen]
    late = unrecorded(settings.pipeline.dataset, project) if settings.pipeline.commit else set()
    outcomes: list[Outcome] = []
    with ExitStack() as held:
        todo, late_without_news = [], []
        for category, one in zip(chosen, changed, strict=True):
            if one is not None and (one.any or category in late):
                if not _occupy(held, settings, project, category):
                    outcomes.append(Outcome.busy(one))
                    continue
                # Whoever had the lock before may have dealt with these images, and made another champion.
                one = _find_changes(settings, project, category, failures)
            if one is None:
                outcomes.append(Outcome.failed(category))
            elif one.any:
                todo.append(one)
            else:
                outcomes.append(Outcome.nothing_new(one))
                late_without_news += [category] if category in late else []
        done, failed = _make_candidates(settings, project, todo)
        failures += failed + _record_late(settings, project, late_without_news)
    outcomes += done
    publish(outcomes, failures, settings)
    raise_failures(failures)
    return completed("; ".join(str(outcome) for outcome in outcomes), outcomes)


@task(
    name="image changes",
    task_run_name="image changes {category}",
    cache_policy=NO_CACHE,
    persist_result=False,
    **RETRY_REGISTRY,
)
def image_changes(settings: Settings, project: Path, category: str) -> ImageChanges:
    """What the category's champion does not know."""
    return find_image_changes(settings, project, category)


def _find_changes(
    settings: Settings, project: Path, category: str, failures: list[str]
) -> ImageChanges | None:
    """What is new; None where that cannot be told, which is noted among the failures."""
    state = image_changes(settings, project, category, return_state=True)
    failures += failure_of(f"image changes {category}", state)
    return state.result() if state.is_completed() else None


def _occupy(held: ExitStack, settings: Settings, project: Path, category: str) -> bool:
    """Take the category's lock; False when another retrain has it and the policy is not to wait.

    Every flow takes its locks in the order of the parameters: none waits for another in a circle.
    """
    try:
        name = project_locks.category(settings.pipeline.dataset, category)
        held.enter_context(project_locks.hold(name, project, wait=settings.retrain.when_busy == "wait"))
    except TimeoutError:
        return False
    return True


def _make_candidates(
    settings: Settings, project: Path, todo: Sequence[ImageChanges]
) -> tuple[list[Outcome], list[str]]:
    """Fit or update, evaluate, register; what failed for one category stops no other."""
    updates = [one for one in todo if can_update(one, settings)]
    fits = [one.category for one in todo if one not in updates]
    finished: list[Finished] = []
    failures: list[str] = []
    if fits:
        note_unrecorded(settings.pipeline.dataset, fits, project)
        outputs = outputs_folder(settings, project)
        finished, failures = run_stages(settings, project, outputs, fits)
    updated = []
    for one in updates:
        assert one.champion is not None  # noqa: S101 (for the reader: can_update says so)
        stages, failed = run_update(settings, project, one.champion)
        updated += stages
        failures += failed
    models = _register(settings, [*finished, *updated], failures)
    failures += record(settings, finished, project)
    return [Outcome.of(one, models) for one in todo], failures


def _record_late(settings: Settings, project: Path, categories: Sequence[str]) -> list[str]:
    """Record what an earlier run registered and then could not record: its stages are found done."""
    if not categories:
        return []
    finished, failures = run_stages(settings, project, outputs_folder(settings, project), categories)
    return failures + record(settings, finished, project)


def can_update(changes: ImageChanges, settings: Settings) -> bool:
    """Whether an update is wanted and possible: no bank forgets an image, and no ensemble learns one."""
    champion = changes.champion
    if settings.retrain.mode == "full" or champion is None:
        return False
    return not changes.gone and not champion.is_ensemble


def _register(settings: Settings, finished: Sequence[Finished], failures: list[str]) -> list[RegisteredModel]:
    """Register what was evaluated and put the candidates through the gate; none where that failed."""
    evaluations = [item for item in finished if item.stage in EVALUATIONS]
    if not evaluations:
        return []
    registered = register(settings, evaluations, str(runtime.flow_run.id), return_state=True)
    failures += failure_of("register", registered)
    if not registered.is_completed():
        return []
    named = nominate(settings, evaluations, registered.result(), return_state=True)
    failures += failure_of("gate", named)
    return named.result() if named.is_completed() else []


def main(categories: Categories = None) -> None:
    """Make a candidate of the images that are new.

    Exit status: 0 done, 1 the flow failed, 2 wrong parameters.
    """
    read_params(categories=categories)
    with failure_told("retrain"):
        outcomes = retrain(categories or ())
    for outcome in outcomes:
        print(outcome)


if __name__ == "__main__":
    run_command(main, "retrain")
