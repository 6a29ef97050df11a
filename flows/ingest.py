"""The flow that takes new images from the inbox into the data set.

python -m flows.ingest [--params FILE] [--set section.key=value ...]
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from flows.support import project_locks
from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_artifacts import artifact_key
from flows.support.prefect_states import completed, failure_of
from flows.support.retries import RETRY_BUSY
from reconpatch.settings import Settings, load_settings
from tasks.operations.ingest import Ingested, ingest, left_in_inbox
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import Overrides, Params, run_command

COMPLETED = "reconpatch.ingest.completed"


def announce(batch: Ingested) -> None:
    """Emit the event that a retraining may wait for; an event of the same batch has the same id."""
    emit_event(
        event=COMPLETED,
        resource={"prefect.resource.id": f"reconpatch.dataset.{batch.dataset}.{batch.category}"},
        payload={name: value for name, value in asdict(batch).items() if name != "batch"},
        id=uuid5(NAMESPACE_URL, f"{batch.dataset}/{batch.category}/{batch.batch}/{batch.data_hash}"),
    )


# A killed ingest may leave a dvc behind that is still at work.
@task(
    name="ingest",
    task_run_name="ingest {category}",
    cache_policy=NO_CACHE,
    persist_result=False,
    **RETRY_BUSY,
)
def ingest_category(settings: Settings, category: str, project: Path) -> list[Ingested]:
    """Bring one inbox to its end, while no other flow runs DVC."""
    with project_locks.hold(project_locks.DVC, project):
        return ingest(settings, category, project, announce=announce)


@flow(name="ingest", on_running=[note_process])
def ingest_all(
    params: Path | None = None, overrides: Sequence[str] = (), project: Path = PROJECT
) -> list[Ingested]:
    """Bring the inboxes of all categories to their end, one after the other.

    Returns:
        The batches. The flow run's own message has the counts of every category.

    Raises:
        FlowFailedError: an inbox could not be brought to its end; the others were.
    """
    settings = load_settings(params or project / PARAMS, overrides)
    done: list[Ingested] = []
    counts: list[str] = []
    failures: list[str] = []
    for category in settings.pipeline.categories:
        state = ingest_category(settings, category, project, return_state=True)
        if state.is_completed():
            batches = state.result()
            left = 0 if batches else left_in_inbox(settings, category, project)
            told = [str(batch) for batch in batches]
            counts += told or [f"{category}: nothing to take, {left} left in the inbox"]
            done += batches
        failures += failure_of(f"ingest {category}", state)
    if done:
        create_table_artifact(
            key=artifact_key("ingest", settings.pipeline.dataset),
            table=[asdict(batch) | {"reasons": str(batch.reasons or "")} for batch in done],
            description=f"New images of {settings.pipeline.dataset}; those put aside lie in "
            f"{settings.ingest.quarantine}, each with its reason",
        )
    raise_failures(failures)
    return completed("; ".join(counts), done)


def main(params: Params = None, overrides: Overrides = None) -> None:
    """Take new images from the inboxes into the data set, or put them aside with a reason.

    Exit status: 0 done, 1 the flow failed, 2 wrong parameters.
    """
    read_params(params, overrides)
    with failure_told("ingest"):
        batches = ingest_all(params, overrides or ())
    for batch in batches:
        print(batch)
    if any(batch.quarantined for batch in batches):
        print("what was put aside, and why: reconpatch data quarantine")


if __name__ == "__main__":
    run_command(main, "ingest")
