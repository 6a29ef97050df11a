"""Log finished evaluations to MLflow and register their detectors: idempotent, keyed by output digest.

python -m tasks.registry.register [--params FILE]

It is no DVC stage: DVC would skip its effects whenever it restores cached outputs.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reconpatch.errors import DataError
from reconpatch.progress import track
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.file_locks import file_lock
from tasks.registry.candidates import nominate_candidates
from tasks.registry.finished_evaluation import METRICS, FinishedEvaluation
from tasks.registry.lineage_tags import lineage
from tasks.registry.mlflow_runs import log_detector, log_parent
from tasks.registry.mlflow_store import OUTPUT_DIGEST, Experiment, mlflow_errors, open_experiment
from tasks.registry.registered_model import RegisteredModel
from tasks.registry.version_overview import publish_overview
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import PARAMS, PROJECT, is_recorded, jobs_of, outputs_folder
from tasks.running.stage_table import EVALUATIONS
from tasks.running.typer_commands import Params, run_command, show_progress

_LOG = logging.getLogger(__name__)


def register_run(
    settings: Settings, finished: Sequence[Finished], *, flow_run_id: str | None = None
) -> list[RegisteredModel]:
    """Register the detectors of one pipeline run, and put its candidates through the gate.

    A run beside params.yaml, with its outputs in ``runs/``, gets versions and no alias: it is a try, and no
    candidate.

    Raises:
        ReConPatchError: as `register_detectors` and `nominate_candidates`.
    """
    models = register_detectors(settings, finished, flow_run_id=flow_run_id)
    if finished and is_recorded(finished[0].job.outputs, finished[0].job.project):
        return nominate_candidates(settings, finished, models)
    return models


def register_detectors(
    settings: Settings, finished: Sequence[Finished], *, flow_run_id: str | None = None
) -> list[RegisteredModel]:
    """Register the detectors of one pipeline run; no alias moves.

    What an earlier call registered is found by its digest and not logged again.

    Args:
        settings: parameters of the run.
        finished: its finished evaluations.
        flow_run_id: of the Prefect flow run, for lineage.

    Returns:
        One entry an evaluation, in their order.

    Raises:
        ReConPatchError: the MLflow store cannot be used.
    """
    if not finished:
        return []
    project = finished[0].job.project
    evaluations = [FinishedEvaluation.of(item) for item in finished]
    # Two runs that end together must not both find a digest missing.
    with mlflow_errors("a registration"), file_lock(project / ".cache" / "register.lock"):
        experiment = open_experiment(settings.register_.experiment, settings, project)
        models = _register(experiment, evaluations, settings, project, flow_run_id)
        publish_overview(experiment, [model.name for model in models], settings.register_.candidate_metric)
    return [
        replace(model, heat_maps=evaluation.heat_maps)
        for evaluation, model in zip(evaluations, models, strict=True)
    ]


def finished_evaluations(settings: Settings, project: Path) -> list[Finished]:
    """The evaluations of these parameters that lie complete on disk, for the explicit command."""
    outputs = outputs_folder(settings, project)
    return [
        item
        for stage in EVALUATIONS
        for job in jobs_of(stage, settings, project, outputs)
        for item in [Finished(stage, job, job.folder(stage), ran=False)]
        if (item.evaluation / METRICS).is_file()
    ]


def _register(
    experiment: Experiment,
    evaluations: Sequence[FinishedEvaluation],
    settings: Settings,
    project: Path,
    flow_run_id: str | None,
) -> list[RegisteredModel]:
    known = [_find(experiment, evaluation) for evaluation in evaluations]
    if None not in known:
        return [model for model in known if model is not None]
    tags = lineage(settings, project) | {"flow_run_id": flow_run_id or "none"}
    models = []
    with log_parent(experiment, settings.pipeline.dataset, evaluations, tags) as parent:
        pairs = zip(evaluations, known, strict=True)
        for evaluation, found in track(pairs, "register", total=len(evaluations)):
            if found is not None:
                models.append(found)
                continue
            _LOG.info("%s: is being registered (%s)", evaluation.registered_name, evaluation.backbone)
            own = tags | {OUTPUT_DIGEST: evaluation.output_digest}
            run_id, version = log_detector(experiment, evaluation, own, parent)
            models.append(
                RegisteredModel(
                    evaluation.registered_name,
                    version,
                    evaluation.category,
                    evaluation.backbone,
                    run_id,
                    True,
                )
            )
            _LOG.info("registered %s, version %s", evaluation.registered_name, version)
    return models


def _find(experiment: Experiment, evaluation: FinishedEvaluation) -> RegisteredModel | None:
    name = evaluation.registered_name
    found = experiment.client.search_model_versions(
        f"name = '{name}' and tags.{OUTPUT_DIGEST} = '{evaluation.output_digest}'"
    )
    if not found:
        return None
    first = min(found, key=lambda version: int(version.version))
    return RegisteredModel(
        name, str(first.version), evaluation.category, evaluation.backbone, first.run_id or "", False
    )


def _verdict(model: RegisteredModel) -> list[str]:
    return [] if model.gate is None else [f"(gate: {model.gate.outcome})"]


def main(params: Params = None) -> None:
    """Register the detectors whose evaluation is finished, such as by `dvc repro`.

    Exit status: 0 done, 1 there is none or MLflow refuses, 2 wrong usage.
    """
    show_progress()
    settings = load_settings(params or PROJECT / PARAMS)
    finished = finished_evaluations(settings, PROJECT)
    if not finished:
        raise DataError("no finished evaluation; run `python -m flows.train` or `dvc repro` first")
    for model in register_run(settings, finished):
        state = "registered" if model.created else "registered before"
        print(f"{model.uri} ({model.backbone}): {state}", *model.aliases, *_verdict(model))


if __name__ == "__main__":
    run_command(main, "register")
