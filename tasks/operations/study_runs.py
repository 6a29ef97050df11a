"""MLflow runs of a study: one parent that a resumed study takes up again, a nested run a cell or trial."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_json
from tasks.registry.mlflow_runs import flatten, log_metrics, log_params, open_run
from tasks.registry.mlflow_store import Experiment
from tasks.running.content_hashes import Hasher
from tasks.running.source_code import stage_code
from tasks.running.stage_folders import runs_folder
from tasks.running.stage_table import STAGES

KEY = "study_key"
_FINISHED = "FINISHED"
_SECTIONS = {
    "seed", "device", "threads", "data", "features", "modulation", "coreset", "scoring", "calibrate",
    "evaluate",
}  # fmt: skip


def detector_parameters(settings: Settings) -> dict[str, Any]:
    """What a detector and its figures depend on, as JSON values: no parameter of the pipeline around it."""
    return settings.model_dump(mode="json", include=_SECTIONS)


def study_code(project: Path) -> dict[str, str]:
    """Hashes by path of the code that a study depends on: that of a fit, an evaluation and the studies."""
    hasher = Hasher(project)
    paths = (*stage_code(STAGES["calibrate"], project), *stage_code(STAGES["evaluate"], project), "studies")
    return {path: hasher.digest(project / path) for path in paths}


def study_folder(study: str, settings: Settings, project: Path) -> Path:
    """``runs/<digest>/<study>``: never among the outputs that DVC knows.

    The digest is of the detector's parameters and of the data set, so that a study may be widened to more
    categories and goes on where it was.
    """
    data = {"study": study, "dataset": settings.pipeline.dataset, "root": str(settings.pipeline.root)}
    return runs_folder(data | detector_parameters(settings), project) / study


@contextmanager
def study_run(experiment: Experiment, name: str, key: str, tags: dict[str, str]) -> Iterator[str]:
    """The parent run of a study; yields its id, ends it as finished or failed.

    Args:
        experiment: where it lies.
        name: shown in the UI.
        key: of the study; the run of an earlier call with the same key goes on.
        tags: lineage, of this call.
    """
    client = experiment.client
    found = client.search_runs([experiment.id], f"tags.{KEY} = '{key}'")
    if not found:
        with open_run(experiment, name, tags | {KEY: key}) as run_id:
            yield run_id
        return
    run_id = found[0].info.run_id
    client.update_run(run_id, status="RUNNING")
    for tag, value in tags.items():
        client.set_tag(run_id, tag, value)
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, _FINISHED)


def log_once(
    experiment: Experiment,
    parent: str,
    name: str,
    identity: Mapping[str, Any],
    *,
    tags: dict[str, str],
    settings: Settings,
    metrics: Mapping[str, float | int | None],
) -> str:
    """Log one detector of a study as a nested run, unless an earlier call has done so.

    Args:
        experiment: where it lies.
        parent: id of the study's run.
        name: shown in the UI.
        identity: JSON values that no other run of the study shares.
        tags: lineage, and what the run is.
        settings: its parameters.
        metrics: its figures; None is left out.

    Returns:
        The run's id. What a killed call left half logged is ended as killed and logged anew.
    """
    client, key = experiment.client, sha256_json({"parent": parent, **identity})
    for run in client.search_runs([experiment.id], f"tags.{KEY} = '{key}'"):
        if run.info.status == _FINISHED:
            return str(run.info.run_id)
        client.set_terminated(run.info.run_id, "KILLED")
    with open_run(experiment, name, tags | {KEY: key, "mlflow.parentRunId": parent}) as run_id:
        log_params(experiment, run_id, flatten(settings.without_secrets()))
        known = {key: float(value) for key, value in metrics.items() if value is not None}
        log_metrics(experiment, run_id, known)
    return run_id
