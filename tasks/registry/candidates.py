"""The candidates among a run's versions: one a category, put through the gate and named in the registry."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reconpatch.settings import Settings
from reconpatch.storage.file_locks import file_lock
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.gate_rules import GateReport
from tasks.registry.mlflow_store import CHAMPION, mlflow_errors, open_experiment
from tasks.registry.promotion import nominate
from tasks.registry.registered_model import RegisteredModel
from tasks.registry.version_overview import publish_overview
from tasks.running.run_stage import Finished

_LOG = logging.getLogger(__name__)


def nominate_candidates(
    settings: Settings, finished: Sequence[Finished], models: Sequence[RegisteredModel]
) -> list[RegisteredModel]:
    """Put the best version of each category (`choose_candidates`) through the gate.

    It gets the alias ``challenger`` unless the gate refuses it, and ``champion`` too when the category has
    none yet. A champion that is there is moved only where the policy in mlflow/gate.yaml promotes by itself.

    Args:
        settings: parameters of the run.
        finished: its finished evaluations.
        models: what `register_detectors` made of them, in their order.

    Returns:
        The same versions, the candidates with their aliases and the gate's verdict.

    Raises:
        ReConPatchError: the MLflow store cannot be used, or another change of a champion is going on.
    """
    if not finished:
        return []
    project = finished[0].job.project
    evaluations = [FinishedEvaluation.of(item) for item in finished]
    chosen = choose_candidates(evaluations, settings.register_.candidate_metric)
    # Two runs that end together wait for each other here: the lock of a model does not wait long.
    with mlflow_errors("the nomination of candidates"), file_lock(project / ".cache" / "register.lock"):
        experiment = open_experiment(settings.register_.experiment, settings, project)
        named = [
            _nominate(model, settings, project) if evaluation in chosen else model
            for evaluation, model in zip(evaluations, models, strict=True)
        ]
        publish_overview(experiment, [model.name for model in named], settings.register_.candidate_metric)
    return named


def choose_candidates(evaluations: Sequence[FinishedEvaluation], metric: str) -> list[FinishedEvaluation]:
    """One evaluation a category: the best by a metric, the earlier one of equals.

    An evaluation without the metric (no labelled defects) stands behind all that have it, so that a
    category without labels still gets a candidate: that of the first backbone in the parameters.
    """
    best: dict[str, tuple[float, FinishedEvaluation]] = {}
    for evaluation in evaluations:
        value = evaluation.metrics().get(metric)
        rank = float("-inf") if value is None else value
        if evaluation.category not in best or rank > best[evaluation.category][0]:
            best[evaluation.category] = (rank, evaluation)
    return [evaluation for _, evaluation in best.values()]


def _nominate(model: RegisteredModel, settings: Settings, project: Path) -> RegisteredModel:
    gate, aliases = nominate(model.name, model.version, settings=settings, project=project)
    if gate is not None:
        _LOG.info("%s: gate: %s", model.uri, _told(gate, aliases))
    return replace(model, aliases=aliases, gate=gate)


def _told(gate: GateReport, aliases: Sequence[str]) -> str:
    """The outcome, what is behind it, and whether the version is champion now."""
    findings = gate.broken() or gate.undecided()
    told = gate.outcome + (f" ({findings})" if findings else "")
    return f"{told}; it is champion now" if CHAMPION in aliases else told
