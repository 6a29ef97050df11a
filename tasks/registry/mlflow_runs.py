"""MLflow runs of a pipeline run: one parent, a nested run a detector, each with its model version.

Everything goes through a client with explicit run ids: MLflow's notion of an active run belongs to a
thread and is lost, or ends the wrong run, inside Prefect tasks.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from reconpatch.data.manifest import read_manifest
from reconpatch.integrations.mlflow_reproduction import KEPT, PARAMS
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.mlflow_store import Experiment
from tasks.registry.pyfunc_package import save_pyfunc
from tasks.registry.version_tags import describe, version_tags

_LONGEST_DIGEST = 36  # characters of MLflow's column
_BATCH = 100  # parameters a request
_CURVE = 1000  # metrics a request


@contextmanager
def log_parent(
    experiment: Experiment, dataset: str, evaluations: Sequence[FinishedEvaluation], tags: dict[str, str]
) -> Iterator[str]:
    """Run that holds a pipeline run together; yields its id, ends it as finished or failed."""
    name = f"{dataset}-{time.strftime('%Y%m%d-%H%M%S')}"
    with open_run(experiment, name, tags | {"dataset": dataset}) as run_id:
        yield run_id
        rows = [{"category": one.category, "backbone": one.backbone, **one.metrics()} for one in evaluations]
        table = pd.DataFrame(rows)
        figures = table.drop(columns=["category", "backbone"]).astype("float64").mean().dropna()
        # Not again what a unified model says of each category.
        means = {f"mean_{key}": value for key, value in figures.items() if not _is_of_some(str(key))}
        log_metrics(experiment, run_id, means)
        experiment.client.log_table(run_id, table, "detectors.json")


def _is_of_some(metric: str) -> bool:
    return "." in metric or metric.startswith("mean_")


def log_detector(
    experiment: Experiment, evaluation: FinishedEvaluation, tags: dict[str, str], parent: str
) -> tuple[str, str]:
    """Log one detector with its evaluation and register it.

    Returns:
        The nested run's id and the number of the new model version.
    """
    client, config, metrics = experiment.client, evaluation.config(), evaluation.metrics()
    table = read_manifest(evaluation.checks / "manifest.parquet")
    absent = [f"{name}: {reason}" for name, reason in evaluation.not_available().items()]
    tags = tags | {
        "dataset": evaluation.dataset,
        "category": evaluation.category,
        "kind": str(config["kind"]),
        "backbone": evaluation.backbone,
        "weights_sha256": str(config["backbone"]["weights_sha256"]),
        "weights_source": str(config["backbone"]["weights_source"]),
        "training_set_sha256": str(config["training_set_sha256"]),
        "record_digest": evaluation.record_digest or "none",
        "metrics_not_available": "; ".join(absent) or "none",
        "reconpatch_version": metadata.version("reconpatch"),
        **version_tags(evaluation),
    }
    name = f"{evaluation.category}-{evaluation.backbone}"
    with open_run(experiment, name, tags | {"mlflow.parentRunId": parent}) as run_id:
        log_params(experiment, run_id, flatten(evaluation.settings.without_secrets()))
        dataset = _dataset(evaluation, table, tags["dvc_data_hash"])
        context = [InputTag("mlflow.data.context", "training and test")]
        client.log_inputs(run_id, [DatasetInput(dataset, context)])
        client.log_artifacts(run_id, str(evaluation.folder), "evaluation")
        client.log_artifacts(run_id, str(evaluation.checks), "data")
        if evaluation.nominal_check is not None:
            client.log_artifact(run_id, str(evaluation.nominal_check), "data")
        values = evaluation.parameters.without_secrets()
        client.log_text(run_id, yaml.safe_dump(values, sort_keys=False), f"{KEPT}/{PARAMS}")
        if evaluation.data_record is not None:
            # Under another ending: DVC takes every *.dvc below the project, MLflow's files too, as its own.
            client.log_text(run_id, evaluation.data_record.read_text("utf-8"), f"{KEPT}/images_dvc.yaml")
        model_id, source = _log_model(experiment, evaluation, tags, run_id)
        figures = {key: value for key, value in metrics.items() if value is not None}
        log_metrics(experiment, run_id, figures, model_id=model_id, dataset=dataset)
        if evaluation.history is not None:
            _log_history(experiment, run_id, pd.read_csv(evaluation.history))
        version = _create_version(experiment, evaluation, tags, run_id, model_id, source)
    return run_id, version


@contextmanager
def open_run(experiment: Experiment, name: str, tags: dict[str, str]) -> Iterator[str]:
    """A new run; yields its id, ends it as finished or failed."""
    client = experiment.client
    run_id: str = client.create_run(experiment.id, run_name=name, tags=tags).info.run_id
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _log_model(
    experiment: Experiment, evaluation: FinishedEvaluation, tags: dict[str, str], run_id: str
) -> tuple[str, str]:
    """Write the detector as a pyfunc model; returns its id and where its files lie."""
    client = experiment.client
    logged = client.create_logged_model(
        experiment.id,
        name=evaluation.registered_name,
        source_run_id=run_id,
        tags=tags,
        model_type="reconpatch",
    )
    try:
        with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
            folder = Path(scratch) / "model"
            model = Model(artifact_path=logged.artifact_location, run_id=run_id, model_id=logged.model_id)
            save_pyfunc(evaluation.model, folder, model)
            client.log_model_artifacts(logged.model_id, str(folder))
    except BaseException:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return logged.model_id, logged.artifact_location


def _create_version(
    experiment: Experiment,
    evaluation: FinishedEvaluation,
    tags: dict[str, str],
    run_id: str,
    model_id: str,
    source: str,
) -> str:
    client, name = experiment.client, evaluation.registered_name
    try:
        client.create_registered_model(
            name, description=f"Anomaly detectors for {evaluation.category} of {evaluation.dataset}."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = client.create_model_version(
        name,
        source,
        run_id,
        tags=tags,
        description=describe(evaluation, tags, run_id, experiment.id),
        model_id=model_id,
    )
    # What mlflow.register_model leaves on a logged model, so that the UI links the two.
    link = [{"name": name, "version": version.version}]
    client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps(link)})
    return str(version.version)


def _dataset(evaluation: FinishedEvaluation, table: pd.DataFrame, data_hash: str) -> Dataset:
    """The category's images as an MLflow input, under DVC's own hash."""
    counts = table.groupby(["split", "label"]).size().reset_index(name="n")
    profile = {
        f"{split}_{'defective' if label else 'nominal'}": int(n)
        for split, label, n in counts.itertuples(index=False)
    }
    source = {"uri": str(evaluation.images)}
    return Dataset(
        name=f"{evaluation.dataset}-{evaluation.category}",
        digest=data_hash[:_LONGEST_DIGEST],
        source_type="local",
        source=json.dumps(source),
        profile=json.dumps(profile),
    )


def log_metrics(
    experiment: Experiment,
    run_id: str,
    values: dict[str, float],
    *,
    model_id: str | None = None,
    dataset: Dataset | None = None,
) -> None:
    """Log figures, linked to a model and a data set where these are given."""
    now = int(time.time() * 1000)
    links = {"run_id": run_id, "model_id": model_id}
    if dataset is not None:
        links |= {"dataset_name": dataset.name, "dataset_digest": dataset.digest}
    entries = [Metric(key, value, now, 0, **links) for key, value in values.items()]
    experiment.client.log_batch(run_id, metrics=entries)


def _log_history(experiment: Experiment, run_id: str, history: pd.DataFrame) -> None:
    """The losses of f's training and their ratio as curves over the steps."""
    now = int(time.time() * 1000)
    entries = [
        Metric(key, float(value), now, int(step))
        for key in ("train_loss", "validation_loss", "ratio")
        for step, value in zip(history["step"], history[key], strict=True)
        if pd.notna(value)
    ]
    for start in range(0, len(entries), _CURVE):
        experiment.client.log_batch(run_id, metrics=entries[start : start + _CURVE])


def log_params(experiment: Experiment, run_id: str, values: dict[str, str]) -> None:
    """Log parameters, as many as MLflow takes at once."""
    entries = [Param(key, value) for key, value in values.items()]
    for start in range(0, len(entries), _BATCH):
        experiment.client.log_batch(run_id, params=entries[start : start + _BATCH])


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters by full name, each as text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
