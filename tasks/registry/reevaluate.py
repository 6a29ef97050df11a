"""Champion and challenger on the test images of today, beside what they showed when they were registered."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion

from reconpatch.data.manifest import build_manifest, join_manifests, manifest_digest
from reconpatch.device import limit_threads
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.loading import load
from reconpatch.settings import Settings
from tasks.registry.finished_evaluation import registered_name
from tasks.registry.mlflow_store import (
    CHALLENGER,
    CHAMPION,
    Experiment,
    fetch_detector,
    mlflow_errors,
    open_experiment,
)
from tasks.running.stage_folders import Job, probe_cache

EXPERIMENT = "reconpatch-evaluations"
_SHOWN = ("image_auroc", "pixel_auroc", "aupro", "image_f1_max")


@dataclass(frozen=True)
class Standing:
    """How a registered version does now.

    Attributes:
        model: name of the registered model.
        version: its number.
        alias: ``champion`` or ``challenger``.
        then: its metrics when it was registered; without those that were not available.
        now: those on the images of today.
        evaluation_set: digest of today's manifest.
    """

    model: str
    version: str
    alias: str
    then: dict[str, float]
    now: dict[str, float]
    evaluation_set: str

    @property
    def row(self) -> dict[str, str]:
        """The same as a line of a table; `-` where a metric is not available."""
        cells = {"model": self.model, "version": self.version, "alias": self.alias}
        for name in _SHOWN:
            figures = [side.get(name) for side in (self.then, self.now)]
            cells[name] = " -> ".join("-" if figure is None else f"{figure:.4f}" for figure in figures)
        return cells


def reevaluate(settings: Settings, project: Path, category: str) -> list[Standing]:
    """Evaluate a category's champion and challenger, or those of the unified model, and log it to MLflow.

    Raises:
        ReConPatchError: MLflow cannot be asked.
        DataError: the images cannot be used, or a version was fitted on one of the test images.
    """
    found = []
    with mlflow_errors(f"the evaluation of {category}"):
        experiment = open_experiment(EXPERIMENT, settings, project)
        table = _manifest(Job(settings, category, None, project, project))
        digest = manifest_digest(table)
        for alias, version, then in _named(experiment, settings, category):
            with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
                folder = Path(scratch) / "detector"
                fetch_detector(version.name, str(version.version), folder, settings, project)
                limit_threads(settings.threads)
                detector = load(
                    folder,
                    device=settings.device,
                    threads=settings.threads,
                    cache=project / settings.pipeline.cache,
                )
                figures = evaluate(detector, table, settings).metrics
            now = {name: value for name, value in figures.items() if value is not None}
            standing = Standing(version.name, str(version.version), alias, then, now, digest)
            _log(experiment, standing)
            found.append(standing)
    return found


def _manifest(job: Job) -> pd.DataFrame:
    """Of the images as they lie there now."""
    tables = {
        one.category: build_manifest(
            one.images, one.settings.data, cache=probe_cache(one.settings, one.category, one.project)
        )
        for one in job.by_category
    }
    return join_manifests(tables, job.images) if job.is_unified else tables[job.category]


def _named(
    experiment: Experiment, settings: Settings, category: str
) -> Iterator[tuple[str, ModelVersion, dict[str, float]]]:
    client, model = experiment.client, registered_name(settings.pipeline.dataset, category)
    models = client.search_registered_models(f"name = '{model}'")
    aliases = models[0].aliases if models else {}
    numbers = {str(aliases[name]): name for name in (CHALLENGER, CHAMPION) if name in aliases}
    for number, alias in numbers.items():  # one that is both counts as champion
        version = client.get_model_version(model, number)
        then = client.get_run(version.run_id).data.metrics if version.run_id else {}
        yield alias, version, then


def _log(experiment: Experiment, standing: Standing) -> None:
    tags = {
        "model": standing.model,
        "version": standing.version,
        "alias": standing.alias,
        "evaluation_set": standing.evaluation_set,
    }
    name = f"{standing.model}-{standing.version}"
    run = experiment.client.create_run(experiment.id, run_name=name, tags=tags)
    moment = run.info.start_time
    metrics = [Metric(key, float(value), moment, 0) for key, value in standing.now.items()]
    experiment.client.log_batch(run.info.run_id, metrics=metrics)
    experiment.client.set_terminated(run.info.run_id, "FINISHED")
