"""Champions and challengers on all test images of today.

python -m flows.evaluate [--category NAME ...]
"""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.support.category_choice import choose_categories
from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_artifacts import artifact_key
from flows.support.prefect_states import completed, failure_of
from reconpatch.settings import load_settings
from reconpatch.settings.pipeline_sections import ALL
from tasks.registry.reevaluate import Standing, reevaluate
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import Categories, run_command


@task(
    name="evaluate registered",
    task_run_name="evaluate {category}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate_category(category: str, project: Path) -> list[Standing]:
    """What a category's champion and challenger show now."""
    return reevaluate(load_settings(project / PARAMS), project, category)


@flow(name="evaluate", on_running=[note_process])
def evaluate(categories: Sequence[str] = (), project: Path = PROJECT) -> list[Standing]:
    """Evaluate what is in use, and what might be; nothing is trained and no alias moves.

    Args:
        categories: some of ``pipeline.categories``; none: all, and the unified model where there is one.
        project: root of the project.

    Raises:
        SettingsError: there is no such category.
        FlowFailedError: a category could not be evaluated; the others were.
    """
    settings = load_settings(project / PARAMS)
    chosen = choose_categories(settings, categories)
    if settings.pipeline.unify and not categories:
        chosen.append(ALL)
    found: list[Standing] = []
    failures: list[str] = []
    for category in chosen:
        state = evaluate_category(category, project, return_state=True)
        failures += failure_of(f"evaluate {category}", state)
        found += state.result() if state.is_completed() else []
    if found:
        create_table_artifact(
            key=artifact_key("standing", settings.pipeline.dataset),
            table=[one.row for one in found],
            description="When registered -> on the images of today",
        )
    raise_failures(failures)
    return completed(f"{len(found)} versions evaluated" if found else "no version yet", found)


def main(categories: Categories = None) -> None:
    """Evaluate champions and challengers on the test images of today.

    Exit status: 0 done, 1 the flow failed, 2 wrong parameters.
    """
    read_params(categories=categories)
    with failure_told("evaluate"):
        outcomes = evaluate(categories or ())
    for outcome in outcomes:
        print(", ".join(f"{name} {cell}" for name, cell in outcome.row.items()))


if __name__ == "__main__":
    run_command(main, "evaluate")
