"""Where a registered model came from, who approved it, and the commands that make it again."""

import json
import shlex
from dataclasses import asdict, dataclass
from typing import Any

from reconpatch.errors import ModelError
from reconpatch.integrations.extras import import_extra
from reconpatch.integrations.mlflow_uri import find_version, require_store

PROMOTIONS = "reconpatch-promotions"
KEPT, PARAMS = "reproduce", "params.yaml"  # what a run keeps so that it can be repeated
_UNKNOWN = "unknown"
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
    "model": ("kind", "updates", "bank_vectors", "bank_bytes", "model_bytes", "output_digest"),
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
        run = client.get_run(version.run_id)
        aliases = client.get_registered_model(version.name).aliases
        approvals = _approvals(client, version.name, str(version.version))
    except mlflow.MlflowException as error:
        raise ModelError(
            f"{uri}: cannot be traced in {mlflow.get_tracking_uri()} ({error.message})"
        ) from None
    tags = {**run.data.tags, **version.tags}
    origin = {
        room: {name: str(tags.get(name, _UNKNOWN)) for name in names} for room, names in _ORIGIN.items()
    }
    problem = _problem(tags)
    return Lineage(
        version.name,
        str(version.version),
        version.run_id,
        tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(version.version))),
        origin,
        dict(sorted(run.data.metrics.items())),
        approvals,
        _commands(tags, version.run_id),
        problem,
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


def _problem(tags: dict[str, str]) -> str | None:
    if tags.get("git_commit", _UNKNOWN) == _UNKNOWN:
        return "it was made outside git: the code is not known"
    if tags.get("updates", "0") != "0":
        return (
            f"it was updated {tags['updates']} time(s): make the version again that it was updated from, "
            "then `reconpatch update` it with the images that came after, in their order"
        )
    if tags.get("git_dirty") == "true":
        return "code, parameters or policy differed from the commit when it was made"
    if tags.get("dvc_record", _UNKNOWN) == _UNKNOWN:
        return "its images are not under DVC: have the same ones at hand"
    return None


def _commands(tags: dict[str, str], run_id: str) -> list[str]:
    """In a working tree and a registry of their own, so that nothing at hand is touched."""
    commit, record = tags.get("git_commit", _UNKNOWN), tags.get("dvc_record", _UNKNOWN)
    if commit == _UNKNOWN or tags.get("updates", "0") != "0":
        return []
    place = f"../reproduce-{commit[:12]}-{run_id[:8]}"
    images = [
        f"cp {place}/{KEPT}/images_dvc.yaml {place}/{record}",
        f'dvc --cd {place} cache dir --local "$(dvc cache dir)"',
        f"dvc --cd {place} checkout {record} || dvc --cd {place} pull {record}",
    ]
    # The other categories and backbones of that run are other versions; none of them is needed here.
    own = {"pipeline.commit": "false"}
    if tags["kind"] in ("single", "ensemble"):
        own["pipeline.categories"] = f"[{tags['category']}]"
    if tags["kind"] == "single":
        own |= {"pipeline.backbones": f"[{tags['backbone']}]", "pipeline.fuse": "[]"}
    overrides = " ".join(f"--set {shlex.quote(f'{name}={value}')}" for name, value in own.items())
    inside = f"cd {place} && export MLFLOW_TRACKING_URI=sqlite:///$PWD/reproduced.db &&"
    model = f"models:/reconpatch-{tags['dataset']}-{tags['category']}/1"
    return [
        f"git worktree add --detach {place} {commit}",
        f"mlflow artifacts download --run-id {run_id} --artifact-path {KEPT} --dst-path {place}",
        *(images if record != _UNKNOWN else []),
        f"python -m venv {place}/.venv && {place}/.venv/bin/pip install -c {place}/constraints.txt "
        f"-e '{place}[pipeline,lite]'",
        f"({inside} .venv/bin/python -m flows.train --params {KEPT}/{PARAMS} {overrides})",
        f"({inside} .venv/bin/reconpatch lineage {model} | grep -F {tags['output_digest']})",
    ]
