"""params.yaml, dvc.yaml and the table of stages say the same."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from reconpatch.settings import Settings, load_settings
from tasks.job import PROJECT
from tasks.stages import STAGES, Stage

_DVC = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
_CATEGORY = "outputs/${pipeline.dataset}/${item.category}"


def _folder(stage: Stage) -> str:
    if stage.unifies:
        return f"outputs/${{pipeline.dataset}}+{stage.name}/${{item.backbone}}"
    if stage.fuses:
        return f"{_CATEGORY}+{stage.name}"
    backbone = "/${item.backbone}" if stage.per_backbone else ""
    return f"{_CATEGORY}{backbone}/{stage.name}"


def _paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def test_params_yaml_states_every_default() -> None:
    stated = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    defaults = Settings().model_dump(mode="json", by_alias=True)
    assert stated == {**defaults, "threads": 1}
    assert load_settings(PROJECT / "params.yaml").threads == 1


def test_dvc_knows_the_stages_of_the_table_in_their_order() -> None:
    assert list(_DVC) == list(STAGES)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_dvc_and_the_table_name_the_same_inputs_and_outputs(stage: Stage) -> None:
    known = _DVC[stage.name]
    upstream = [reference.partition("/") for reference in stage.upstream]
    deps = [*stage.code, *(f"{_folder(STAGES[name])}/{output}" for name, _, output in upstream)]
    if stage.fuses:  # DVC cannot list the backbones' outputs, and takes the folder they lie in
        deps = [*stage.code, _CATEGORY]
    if stage.unifies:  # nor those of the categories
        deps = [*stage.code, "outputs/${pipeline.dataset}"]
    if stage.data:
        deps.append("${pipeline.root}" if stage.unifies else "${pipeline.root}/${item.category}")
    assert sorted(known["deps"]) == sorted(deps)
    assert sorted(known["params"]) == sorted(stage.params)
    outs = [entry for kind in ("outs", "metrics", "plots") for entry in known.get(kind, [])]
    assert sorted(_paths(outs)) == sorted(f"{_folder(stage)}/{output}" for output in stage.outputs)
    matrix = {"category": "${pipeline.categories}"}
    command = f"python -m tasks.{stage.name} --category ${{item.category}}"
    if stage.per_backbone:
        matrix["backbone"] = "${pipeline.backbones}"
        command += " --backbone ${item.backbone}"
    if stage.fuses:
        matrix["fuse"] = "${pipeline.fuse}"
    if stage.unifies:
        matrix = {"backbone": "${pipeline.unify}"}
        command = f"python -m tasks.{stage.name} --backbone ${{item.backbone}}"
    assert list(known["matrix"].items()) == list(matrix.items())
    assert known["cmd"] == command


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_dvc_neither_copies_nor_removes_outputs(stage: Stage) -> None:
    known = _DVC[stage.name]
    for entry in (entry for kind in ("outs", "metrics", "plots") for entry in known.get(kind, [])):
        options = next(iter(entry.values()))
        assert options["cache"] is False
        assert options["persist"] is True


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_code_of_a_stage_exists_and_covers_what_its_file_imports(stage: Stage) -> None:
    for path in stage.code:
        assert (PROJECT / path).exists(), path
    tree = ast.parse((PROJECT / "tasks" / f"{stage.name}.py").read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for module in modules:
        if module is None or not module.startswith(("reconpatch.", "tasks.inputs")):
            continue
        path = Path(*module.split("."))
        covered = any(
            path == Path(entry).with_suffix("") or path.is_relative_to(entry) for entry in stage.code
        )
        assert covered, f"{stage.name} imports {module}, which is not in its code"


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_upstream_names_outputs_of_earlier_stages(stage: Stage) -> None:
    earlier = list(STAGES)[: list(STAGES).index(stage.name)]
    for reference in stage.upstream:
        name, _, output = reference.partition("/")
        assert name in earlier
        assert output in STAGES[name].outputs
