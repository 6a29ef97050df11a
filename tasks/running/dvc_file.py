"""``python -m tasks.running.dvc_file`` writes dvc.yaml from the table of stages and their code's imports."""

from pathlib import Path
from typing import Any

import yaml

from reconpatch.storage.atomic_files import atomic_file
from tasks.running.source_code import stage_code
from tasks.running.stage_folders import PROJECT
from tasks.running.stage_table import HISTORY, STAGES, Stage

FILE = "dvc.yaml"
_HEAD = """\
# Written by `python -m tasks.running.dvc_file` from tasks/running/stage_table.py; do not edit it by hand.
# The code that a stage depends on is what tasks/stages/<name>.py imports, directly or not.
#
# persist: the record in a stage's folder decides what is done, so DVC must not delete outputs before it
# asks. cache: false: MLflow keeps the models; DVC keeps the hashes, and (since outputs persist) no
# run-cache copies either.
# `ensemble` reads every backbone's outputs, `unified` every category's. DVC's templates cannot list them, so
# the whole folder is named. With pipeline.fuse or pipeline.unify empty there is no such stage.
"""
_CATEGORY = "outputs/${pipeline.dataset}/${item.category}"
_LOSSES = {"x": "step", "y": "train_loss", "title": "loss of the modulation"}


def dvc_yaml(project: Path) -> str:
    """The text of dvc.yaml for the code as it is."""
    stages = {stage.name: _entry(stage, project) for stage in STAGES.values()}
    return _HEAD + yaml.safe_dump({"stages": stages}, sort_keys=False, width=1000)


def _entry(stage: Stage, project: Path) -> dict[str, Any]:
    matrix = {} if stage.unifies else {"category": "${pipeline.categories}"}
    command = f"python -m tasks.stages {stage.name}"
    if not stage.unifies:
        command += " --category ${item.category}"
    if stage.per_backbone:
        matrix["backbone"] = "${pipeline.unify}" if stage.unifies else "${pipeline.backbones}"
        command += " --backbone ${item.backbone}"
    if stage.fuses:
        matrix["fuse"] = "${pipeline.fuse}"
    entry: dict[str, Any] = {"matrix": matrix, "cmd": command, "params": list(stage.params)}
    entry["deps"] = [*_inputs(stage), *stage_code(stage, project)]
    for output in stage.outputs:
        kind, more = _kind_of(output)
        options = {"cache": False, "persist": True, **more}
        entry.setdefault(kind, []).append({f"{_folder(stage)}/{output}": options})
    return entry


def _inputs(stage: Stage) -> list[str]:
    images = (
        ["${pipeline.root}" if stage.unifies else "${pipeline.root}/${item.category}"] if stage.data else []
    )
    if stage.unifies:
        return [*images, "outputs/${pipeline.dataset}"]
    if stage.fuses:
        return [*images, _CATEGORY]
    references = (reference.partition("/") for reference in stage.upstream)
    return [*images, *(f"{_folder(STAGES[name])}/{output}" for name, _, output in references)]


def _folder(stage: Stage) -> str:
    if stage.unifies:
        return f"outputs/${{pipeline.dataset}}+{stage.name}/${{item.backbone}}"
    if stage.fuses:
        return f"{_CATEGORY}+{stage.name}"
    return (
        f"{_CATEGORY}/${{item.backbone}}/{stage.name}" if stage.per_backbone else f"{_CATEGORY}/{stage.name}"
    )


def _kind_of(output: str) -> tuple[str, dict[str, str]]:
    """What an output is to DVC, and how it is plotted."""
    name = output.rpartition("/")[2]
    if name == "metrics.json":
        return "metrics", {}
    if name == HISTORY:
        return "plots", _LOSSES
    return ("plots" if name == "plots" else "outs"), {}


if __name__ == "__main__":
    with atomic_file(PROJECT / FILE) as temporary:
        temporary.write_text(dvc_yaml(PROJECT), encoding="utf-8")
