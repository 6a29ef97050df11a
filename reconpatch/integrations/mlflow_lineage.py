"""Where a registered model came from, who approved it, and the commands that make it again."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from reconpatch.errors import ModelError
from reconpatch.integrations.mlflow_reproduction import UNKNOWN, Made, ancestry, commands_for, problem_of
from reconpatch.integrations.mlflow_uri import find_version, require_store
from reconpatch.integrations.optional_packages import import_extra

PROMOTIONS = "reconpatch-promotions"
_ORIGIN = {
    "images": (
        "dataset",
        "category",
        "n_train",
        "n_test",
        "training_set_sha256",
        "evaluation_set_sha256",
        "dvc_data_hash",
        "dvc_record",
    ),
    "code": ("git_commit", "git_dirty", "reconpatch_version"),
    "params": ("params_hash",),
    "environment": ("lock_file_hash", "python", "platform", "blas", "threads", "device"),
    "weights": ("backbone", "weights_sha256", "weights_source"),
    "model": (
        "kind",
        "updates",
        "updated_from",
        "bank_vectors",
        "bank_bytes",
        "model_bytes",
        "output_digest",
    ),
    "verdicts": ("threshold", "expected_false_reject_rate", "gate", "gate_champion", "gate_evaluation_set"),
}


@dataclass(frozen=True)
class Lineage:
    """A version of a registered model, from images to approvals.

    Attributes:
        model: registered name.
        version: its number.
        run_id: MLflow run that explains it.
        aliases: that it has now.
        origin: room -> fact -> value: images, code, params, environment, weights, model, verdicts.
        metrics: figures of its evaluation.
        approvals: events of the log of champions that concern it, in order.
        commands: shell commands, run in the project's root, that make it again; the last ends with status 0
            when detector and figures are the same to the bit. Empty where it cannot be.
        problem: why it cannot be made again exactly; None when it can.
    """

    model: str
    version: str
    run_id: str
    aliases: tuple[str, ...]
    origin: dict[str, dict[str, str]]
    metrics: dict[str, float]
    approvals: list[dict[str, str]]
    commands: list[str]
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def trace(uri: str) -> Lineage:
    """Everything that a registry knows of a version's origin.

    Args:
        uri: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``.

    Raises:
        ModelError: no registry is named, or it has no such model, version or alias.
        ReConPatchError: mlflow is not installed.
    """
    mlflow: Any = import_extra("mlflow", f"the lineage of {uri}")
    require_store(mlflow, uri)
    client = mlflow.MlflowClient()
    try:
        version = find_version(client, uri)
        made = Made.of(client, version)
        steps = ancestry(client, made)
        metrics = client.get_run(made.run_id).data.metrics
        aliases = client.get_registered_model(version.name).aliases
        approvals = _approvals(client, version.name, str(version.version))
    except mlflow.MlflowException as error:
        reason = f"cannot be traced in {mlflow.get_tracking_uri()} ({error.message})"
        raise ModelError(f"{uri}: {reason}") from None
    origin = {
        room: {name: str(made.tags.get(name, UNKNOWN)) for name in names} for room, names in _ORIGIN.items()
    }
    return Lineage(
        made.model,
        made.version,
        made.run_id,
        tuple(sorted(alias for alias, number in aliases.items() if str(number) == made.version)),
        origin,
        dict(sorted(metrics.items())),
        approvals,
        commands_for(steps),
        problem_of(steps),
    )


def _approvals(client: Any, model: str, version: str) -> list[dict[str, str]]:
    experiment = client.get_experiment_by_name(PROMOTIONS)
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], f"tags.model = '{model}'", max_results=1000)
    events = [
        {**json.loads(run.data.tags["event"]), "ending": run.info.status}
        for run in runs
        if "event" in run.data.tags
    ]
    told = ("sequence", "when", "kind", "from_version", "to_version", "who", "why", "gate", "ending")
    return [
        {key: str(event[key]) for key in told}
        for event in sorted(events, key=lambda event: int(event["sequence"]))
        if version in (event["from_version"], event["to_version"])
    ]
