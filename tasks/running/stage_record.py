"""The record in a stage's output folder: of which inputs, and with which bytes, it is the output.

The record alone decides whether a stage is done.
"""

import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_json, write_json
from tasks.running.content_hashes import Hasher
from tasks.running.source_code import stage_code
from tasks.running.stage_folders import Job
from tasks.running.stage_table import Stage

RECORD = "record.json"
_SCHEMA = 1

Inputs = dict[str, Any]


def collect_inputs(stage: Stage, job: Job, hasher: Hasher) -> Inputs:
    """Everything that a stage's outputs depend on, as JSON values and content hashes.

    Raises:
        FileNotFoundError: an input is missing; ``filename`` tells which.
    """
    params = job.settings.model_dump(mode="json", by_alias=True)
    inputs: Inputs = {
        "schema": _SCHEMA,
        "stage": stage.name,
        "category": job.category,
        "backbone": job.backbone if stage.per_backbone else None,
        "params": {name: _value(params, name) for name in stage.params},
        "code": {path: hasher.digest(job.project / path) for path in stage_code(stage, job.project)},
        "upstream": {
            _upstream_name(stage, reference, one): hasher.digest(output_path(one, reference))
            for reference in stage.upstream
            for one in job.upstream(reference.partition("/")[0])
        },
        "data": _data(stage, job, hasher),
    }
    weights = _weights(stage, job.settings)
    if weights is not None:
        inputs["weights"] = hasher.digest(job.project / weights)
    return inputs


def output_path(job: Job, reference: str) -> Path:
    """Path of an output that is named ``stage/output``."""
    stage, _, output = reference.partition("/")
    return job.folder(stage) / output


def write_record(folder: Path, stage: Stage, inputs: Inputs, hasher: Hasher) -> None:
    """Write the record of a stage whose outputs lie complete in ``folder``."""
    outputs = hash_outputs(folder, stage, hasher)
    write_json(folder / RECORD, {"inputs": inputs, "digest": sha256_json(inputs), "outputs": outputs})


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record, or None when there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(record, dict) and {"inputs", "digest", "outputs"} <= record.keys()
    return record if complete else None


def hash_outputs(folder: Path, stage: Stage, hasher: Hasher) -> dict[str, dict[str, str]]:
    """Hash of every file of every output.

    Raises:
        FileNotFoundError: an output is missing; ``filename`` tells which.
    """
    return {name: hasher.tree(folder / name) for name in stage.outputs}


def is_done(folder: Path, stage: Stage, inputs: Inputs, hasher: Hasher) -> bool:
    """Whether ``folder`` holds this stage's whole, unaltered outputs of exactly these inputs."""
    record = read_record(folder)
    if record is None or record["digest"] != sha256_json(inputs):
        return False
    try:
        unaltered: bool = hash_outputs(folder, stage, hasher) == record["outputs"]
    except FileNotFoundError:
        return False
    return unaltered


def changed_inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the inputs that differ, such as ``params: modulation.alpha``."""
    changed = []
    for kind in sorted(before.keys() | after.keys()):
        old, new = before.get(kind), after.get(kind)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changed += [f"{kind}: {name}" for name in _differences(old, new)]
        elif old != new:
            changed.append(kind)
    return changed


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        left, right = old.get(key), new.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            names += _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            names.append(f"{prefix}{key}")
    return names


def _upstream_name(stage: Stage, reference: str, job: Job) -> str:
    if stage.unifies:
        return f"{job.category}/{reference}"
    return f"{job.backbone}/{reference}" if stage.fuses and job.backbone is not None else reference


def _data(stage: Stage, job: Job, hasher: Hasher) -> str | dict[str, str] | None:
    if not stage.data:
        return None
    if stage.unifies:  # other folders may lie beside those of the categories
        return {one.category: hasher.digest(one.images) for one in job.by_category}
    return hasher.digest(job.images)


def _value(params: Mapping[str, Any], name: str) -> Any:
    return reduce(lambda section, key: section[key], name.split("."), params)


def _weights(stage: Stage, settings: Settings) -> Path | None:
    # A weights file is named by its path; the path stays while its content may change.
    return settings.features.weights if "features" in stage.params else None
