"""A log of champions that two copies of a project wrote at the same time, mended by one more event."""

from pathlib import Path

from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_lineage import PROMOTIONS
from reconpatch.settings import Settings
from tasks.registry.champion_change import alias_of, lock_model
from tasks.registry.champion_history import champion_of
from tasks.registry.mlflow_store import CHAMPION, mlflow_errors, open_experiment
from tasks.registry.promotion import account
from tasks.registry.promotion_chain import chain_problem, faults_to_mend, seal, tip
from tasks.registry.promotion_event import MEND, NOBODY
from tasks.registry.promotion_log import PromotionLog

_LONGEST_WHY = 3000


def mend_log(model: str, *, dry_run: bool, settings: Settings, project: Path) -> list[str]:
    """Append an event that says what is wrong, and seals all events before it; none is changed.

    Args:
        model: name of the registered model.
        dry_run: find out only.
        settings: section ``register`` says where the registry is.
        project: root of the project.

    Returns:
        What is wrong with the log; empty where it verifies.

    Raises:
        ModelError: an event was edited, put in or taken out, which is not mended; or another change of the
            champion is going on.
        ReConPatchError: MLflow refused something.
    """
    with mlflow_errors(f"the log of {model}"), lock_model(model, project):
        experiment = open_experiment(PROMOTIONS, settings, project)
        log = PromotionLog(experiment, model, project)
        entries, head = log.unverified()
        problem = chain_problem(entries, head)
        if problem is None:
            return []
        faults = faults_to_mend(entries, head)
        if not faults:
            raise ModelError(
                f"{model}: {problem}; this is not mended: restore the run in the experiment {PROMOTIONS}, or "
                "find out who edited it"
            )
        if any(log.is_of_another(entry) for entry in entries):
            raise log.came_first()
        if dry_run:
            return faults
        alias = alias_of(experiment.client, model, CHAMPION) or NOBODY
        # Half done events end as `reconcile` would end them: what is sealed does not change any more.
        entries = [
            log.close(entry, done=entry.event.to_version == alias) if entry.is_open else entry
            for entry in entries
        ]
        last = tip(entries, head)
        entries = [*(entry for entry in entries if entry.run_id != last.run_id), last]
        # Who is champion by the log stays it: where that is another version, the next look writes that down.
        champion = champion_of(entries) or NOBODY
        event = log.intend(
            entries,
            kind=MEND,
            from_version=champion,
            to_version=champion,
            who=account(),
            why=f"two copies of the project wrote at the same time: {'; '.join(faults)}"[:_LONGEST_WHY],
            gate="not judged",
            gate_table=(),
            evaluation_set=seal(entries),
        )
        log.close(event, done=True)
        return faults
