"""The flow that checks for drift: predictions since the last check against held-out images.

python -m flows.monitor [--category NAME ...]
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.support.category_choice import choose_categories
from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_artifacts import artifact_key, publish_picture
from flows.support.prefect_states import completed, failure_of
from reconpatch.settings import Settings, load_settings
from tasks.operations.drift_monitor import Checked, check_drift
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import Categories, run_command

ALARM = "reconpatch.drift.alarm"
RETRAIN = "reconpatch.drift.retrain"


def announce(checked: Checked, settings: Settings) -> None:
    """Emit the alarm and, by policy, the event that a retrain waits for; told twice they keep their ids."""
    check, dataset = checked.check, settings.pipeline.dataset
    if check is None:
        return
    for event in (ALARM, RETRAIN)[: 2 if settings.monitor.on_alarm == "retrain" else 1]:
        emit_event(
            event=event,
            resource={"prefect.resource.id": f"reconpatch.dataset.{dataset}.{checked.category}"},
            payload={
                "dataset": dataset,
                "category": checked.category,
                "model_version": check.model_version,
                "moved": check.moved,
                "p_value": check.p_value,
                "level": check.level,
                "window": check.window,
                "note": checked.note,
            },
            id=uuid5(NAMESPACE_URL, f"{event}/{check.model_version}/{check.until.isoformat()}"),
        )


@task(name="check drift", task_run_name="check drift {category}", cache_policy=NO_CACHE, persist_result=False)
def check_category(settings: Settings, category: str, project: Path) -> Checked:
    """Check one category; its plots become an artifact."""
    checked = check_drift(
        settings, category, project, now=datetime.now(UTC), announce=lambda one: announce(one, settings)
    )
    if checked.picture is not None:
        key = artifact_key("drift-plots", settings.pipeline.dataset, category)
        publish_picture(key, checked.picture, checked.note)
    return checked


@flow(name="monitor", on_running=[note_process])
def monitor(categories: Sequence[str] = (), project: Path = PROJECT) -> list[Checked]:
    """Check categories for drift, one after the other; where too little is new, nothing happens.

    Args:
        categories: some of ``pipeline.categories``; none: all.
        project: root of the project.

    Returns:
        One outcome a category. The flow run's own message says the same in words.

    Raises:
        SettingsError: there is no such category.
        FlowFailedError: a category could not be checked; the others were.
    """
    settings = load_settings(project / PARAMS)
    done: list[Checked] = []
    failures: list[str] = []
    for category in choose_categories(settings, categories):
        state = check_category(settings, category, project, return_state=True)
        if state.is_completed():
            done.append(state.result())
        failures += failure_of(f"check drift {category}", state)
    looked = [one for one in done if one.check is not None]
    if looked:
        create_table_artifact(
            key=artifact_key("drift", settings.pipeline.dataset),
            table=[_row(one) for one in looked],
            description=f"Checks of {settings.pipeline.dataset} for drift",
        )
    raise_failures(failures)
    return completed("; ".join(str(one) for one in done), done)


def _row(checked: Checked) -> dict[str, str]:
    check = checked.check
    assert check is not None  # noqa: S101 (for the reader: only checks become rows)
    return {
        "category": checked.category,
        "alarm": "ALARM" if check.alarm else "no",
        "p": f"{check.p_value:.2g}",
        "level": f"{check.level:.2g}",
        "new groups": str(check.window),
        "held-out groups": str(check.reference),
        "rejects": "not calibrated" if check.rejects is None else f"{check.rejects:.1%}",
        "stands out most": f"{check.moved} ({check.shifts[check.moved]:.2g})",
    }


def main(categories: Categories = None) -> None:
    """Check the predictions since the last check for drift.

    Exit status: 0 done, 1 the flow failed, 2 wrong parameters.
    """
    read_params(categories=categories)
    with failure_told("monitor"):
        outcomes = monitor(categories or ())
    for outcome in outcomes:
        print(outcome)


if __name__ == "__main__":
    run_command(main, "monitor")
