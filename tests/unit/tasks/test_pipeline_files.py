"""params.yaml states the defaults; dvc.yaml follows from the table of stages and their code's imports."""

from pathlib import Path

import pytest
import yaml

from reconpatch.settings import Settings, load_settings
from tasks.running.dvc_file import FILE, dvc_yaml
from tasks.running.source_code import import_closure, stage_code
from tasks.running.stage_folders import PROJECT
from tasks.running.stage_table import STAGES, Stage

_DVC = yaml.safe_load(dvc_yaml(PROJECT))["stages"]


def test_params_yaml_states_every_default() -> None:
    stated = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    defaults = Settings().model_dump(mode="json", by_alias=True)
    assert stated == {**defaults, "threads": 1}
    assert load_settings(PROJECT / "params.yaml").threads == 1


def test_dvc_yaml_is_up_to_date() -> None:
    text = (PROJECT / FILE).read_text(encoding="utf-8")
    assert text == dvc_yaml(PROJECT), "run: python -m tasks.running.dvc_file"


def test_dvc_neither_copies_nor_removes_outputs() -> None:
    entries = [
        options
        for stage in _DVC.values()
        for kind in ("outs", "metrics", "plots")
        for entry in stage.get(kind, [])
        for options in entry.values()
    ]
    assert len(entries) == sum(len(stage.outputs) for stage in STAGES.values())
    assert all(options["cache"] is False and options["persist"] is True for options in entries)


@pytest.mark.parametrize(
    ("name", "command", "matrix"),
    [
        ("validate", "validate --category ${item.category}", ["category"]),
        ("train", "train --category ${item.category} --backbone ${item.backbone}", ["category", "backbone"]),
        ("ensemble", "ensemble --category ${item.category}", ["category", "fuse"]),
        ("unified", "unified --backbone ${item.backbone}", ["backbone"]),
    ],
)
def test_dvc_runs_a_stage_for_each_of_its_jobs(name: str, command: str, matrix: list[str]) -> None:
    assert _DVC[name]["cmd"] == f"python -m tasks.stages {command}"
    assert list(_DVC[name]["matrix"]) == matrix


def test_the_closure_follows_imports_of_imports_and_those_inside_functions(tmp_path: Path) -> None:
    package = tmp_path / "reconpatch"
    (package / "room").mkdir(parents=True)
    for name, text in {
        "__init__.py": "",
        "first.py": "import os\nfrom reconpatch.room import second\n",
        "room/__init__.py": "",
        "room/second.py": "def late():\n  from reconpatch.third import x\n  import reconpatch.room.fourth\n",
        "room/fourth.py": "if TYPE_CHECKING:\n  import reconpatch.unused\n",
        "third.py": "import reconpatch.first\n",
        "unused.py": "",
    }.items():
        (package / name).write_text(text)
    found = import_closure([package / "first.py"], tmp_path)
    names = {path.relative_to(package).as_posix() for path in found}
    assert names == {
        "__init__.py", "first.py", "third.py", "room/__init__.py", "room/second.py", "room/fourth.py",
    }  # fmt: skip


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_the_code_of_a_stage_holds_what_decides_its_outputs_and_no_runner(stage: Stage) -> None:
    code = stage_code(stage, PROJECT)
    assert f"tasks/stages/{stage.body}.py" in code
    assert "tasks/running/run_stage.py" not in code
    assert not any(path.startswith("flows") for path in code)


@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES)
def test_upstream_names_outputs_of_earlier_stages(stage: Stage) -> None:
    earlier = list(STAGES)[: list(STAGES).index(stage.name)]
    for reference in stage.upstream:
        name, _, output = reference.partition("/")
        assert name in earlier
        assert output in STAGES[name].outputs
