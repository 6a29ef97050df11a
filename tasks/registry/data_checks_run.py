"""The outcome of a category's data checks in MLflow: a run a state of the data, with the Data Docs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Metric

from reconpatch.storage.atomic_files import sha256_json
from reconpatch.storage.file_locks import file_lock
from tasks.registry.lineage_tags import data_hash
from tasks.registry.mlflow_store import Experiment, mlflow_errors, open_experiment, tracking_uri
from tasks.running.stage_folders import Job
from tasks.stages.validate import CHECKS

_DIGEST = "checks_digest"
_COUNTS = ("images", "critical", "warning")


@dataclass(frozen=True)
class Checks:
    """What `validate` found, and where it can be read.

    Attributes:
        values: the report as JSON values, with ``manifest_digest``.
        page: first page of the Data Docs on this machine.
    """

    values: dict[str, Any]
    page: Path

    @classmethod
    def read(cls, job: Job) -> "Checks | None":
        """Of the category's last checks; None where there were none."""
        try:
            values = json.loads((job.data_docs / CHECKS).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(values, job.data_docs / "index.html")


def log_checks(job: Job, checks: Checks) -> str:
    """Log the Data Docs to MLflow, once for equal findings on equal images.

    Returns:
        Where they are: an address where MLflow is a server, else the run's id and its experiment.

    Raises:
        ReConPatchError: MLflow refuses.
    """
    settings, dataset = job.settings, job.settings.pipeline.dataset
    digest = sha256_json([dataset, job.category, checks.values])
    name = f"{settings.register_.experiment}-data"
    # Categories are checked side by side, and a new database is made by the first who comes.
    with mlflow_errors("the Data Docs"), file_lock(job.project / ".cache" / "register.lock"):
        experiment = open_experiment(name, settings, job.project)
        found = experiment.client.search_runs(
            [experiment.id], f"tags.{_DIGEST} = '{digest}' and attributes.status = 'FINISHED'", max_results=1
        )
        run_id = found[0].info.run_id if found else _log(experiment, job, checks, digest)
    uri = tracking_uri(settings, job.project)
    if uri.startswith(("http://", "https://")):
        return f"{uri.rstrip('/')}/#/experiments/{experiment.id}/runs/{run_id}/artifacts"
    return f"run {run_id} of experiment {name}"


def _log(experiment: Experiment, job: Job, checks: Checks, digest: str) -> str:
    client, values, dataset = experiment.client, checks.values, job.settings.pipeline.dataset
    tags = {
        _DIGEST: digest,
        "dataset": dataset,
        "category": job.category,
        "success": str(values["success"]).lower(),
        "dvc_data_hash": data_hash(job.images, job.project),
    }
    run = client.create_run(experiment.id, run_name=f"{dataset}-{job.category}", tags=tags)
    run_id: str = run.info.run_id
    try:
        client.log_batch(run_id, [Metric(key, values[key], run.info.start_time, 0) for key in _COUNTS])
        client.log_artifacts(run_id, str(job.data_docs), "data_docs")
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")
    return run_id
