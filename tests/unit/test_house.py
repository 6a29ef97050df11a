"""The shape of the house: names that stand for one thing, no circle of files, no file too long to read."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tasks.running.source_code import imported_files

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("reconpatch", "tasks", "flows")


def _modules(package: str) -> Iterator[Path]:
    return (path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_name_stands_twice_within_a_package(package: str) -> None:
    counts = Counter(path.stem for path in _modules(package))
    assert [name for name, count in counts.items() if count > 1] == []


def test_no_files_import_each_other_in_a_circle_not_even_inside_functions() -> None:
    files = [path for package in PACKAGES for path in _modules(package)]
    graph = {path: set(imported_files(path, ROOT)) - {path} for path in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(path.relative_to(ROOT).as_posix() for path in error.args[1]))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_longer_than_350_lines(package: str) -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _modules(package)}
    assert [path.name for path, lines in sizes.items() if lines > 350] == []


def test_flows_holds_one_flow_a_file_and_helpers_in_support() -> None:
    for path in (ROOT / "flows").glob("[a-z]*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        decorated = [
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
            and any(
                "flow" in ast.unparse(decorator).split("(")[0].split(".") for decorator in node.decorator_list
            )
        ]
        assert len(decorated) <= 2, f"{path.name}: {decorated}"


def test_stages_holds_one_file_a_stage_and_nothing_else() -> None:
    from tasks.running.stage_table import STAGES, VARIANTS

    names = {path.stem for path in (ROOT / "tasks" / "stages").glob("*.py")}
    assert names == {*STAGES, *VARIANTS, "__init__", "__main__"}
