"""How a flow ends: detectors are registered, candidates go through the gate, stages are recorded."""

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.support import project_locks
from flows.support.prefect_states import failure_of
from flows.support.retries import RETRY_BUSY, RETRY_REGISTRY
from flows.support.training_summary import publish_gate
from reconpatch.settings import Settings
from tasks.registry.registered_model import RegisteredModel
from tasks.running.dvc_commit import commit_stages, forget_unrecorded
from tasks.running.git_commit import commit_results
from tasks.running.run_stage import Finished


@task(
    name="commit",
    cache_policy=NO_CACHE,
    persist_result=False,
    **RETRY_BUSY,
)
def commit(finished: Sequence[Finished], project: Path) -> list[str]:
    """Record the stages with DVC. One flow at a time; a person's own dvc command is waited for."""
    with project_locks.hold(project_locks.DVC, project):
        return commit_stages(finished, project)


@task(name="git commit", cache_policy=NO_CACHE, persist_result=False)
def commit_to_git(finished: Sequence[Finished], project: Path) -> str | None:
    """Commit dvc.lock and the metrics, while no other flow writes them."""
    with project_locks.hold(project_locks.DVC, project):
        return commit_results(finished, project)


@task(name="register", cache_policy=NO_CACHE, persist_result=False, **RETRY_REGISTRY)
def register(settings: Settings, evaluations: Sequence[Finished], flow_run_id: str) -> list[RegisteredModel]:
    """Log the evaluations to MLflow and register their detectors; what is there already is left alone."""
    from tasks.registry.register import register_detectors

    return register_detectors(settings, evaluations, flow_run_id=flow_run_id)


@task(name="gate", cache_policy=NO_CACHE, persist_result=False, **RETRY_REGISTRY)
def nominate(
    settings: Settings, evaluations: Sequence[Finished], models: Sequence[RegisteredModel]
) -> list[RegisteredModel]:
    """Put the best version of each category through the gate: it becomes challenger, champion or neither."""
    from tasks.registry.candidates import nominate_candidates

    named = nominate_candidates(settings, evaluations, models)
    for model in named:
        if model.gate is not None:
            publish_gate(model.name, model.version, model.gate)
    return named


def record(settings: Settings, finished: Sequence[Finished], project: Path) -> list[str]:
    """Record the stages with DVC and git where the parameters ask for it.

    Returns:
        A message for each of the two that failed.
    """
    if not finished or not settings.pipeline.commit:
        return []
    recorded = commit(finished, project, return_state=True)
    failures = failure_of("commit", recorded)
    if settings.pipeline.git_commit and recorded.is_completed():
        failures += failure_of("git commit", commit_to_git(finished, project, return_state=True))
    if not failures:
        forget_unrecorded(finished, project)
    return failures
