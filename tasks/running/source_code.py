"""The source code of a stage: the closure of what its file imports, and whether it is the code that runs.

A long process keeps the modules that it imported, while a record holds hashes of the files. If a file were
edited in between, the record would name code that never ran.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from reconpatch.errors import ReConPatchError
from tasks.running.content_hashes import Hasher
from tasks.running.stage_table import STAGES, VARIANTS, Stage

_PACKAGES = ("reconpatch", "tasks", "flows")


class CodeChangedError(ReConPatchError):
    """Source code was edited after this process had started."""


@cache
def stage_code(stage: Stage, project: Path) -> tuple[str, ...]:
    """Files and folders, relative to the project, whose change makes a stage's outputs stale.

    They are the closure of the imports of the stage's file in tasks/stages/, those inside functions
    included. A folder stands for its files where all of them are imported.
    """
    return _folded(import_closure([project / "tasks" / "stages" / f"{stage.body}.py"], project), project)


def import_closure(files: list[Path], project: Path) -> set[Path]:
    """Files of the project's packages that these files import, directly or not, and the files themselves."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported_files(file, project)
    return found


def imported_files(file: Path, project: Path) -> Iterator[Path]:
    """Files of the project's packages that a file imports, those of the packages around them included."""
    return (path for module in _imports(file) for path in _files_of(module, project))


@cache
def note_code(project: Path) -> dict[str, str]:
    """Hashes of the stages' code; those of the first call in a process stay."""
    hasher = Hasher(project)
    return {
        path: hasher.digest(project / path)
        for stage in (*STAGES.values(), *VARIANTS.values())
        for path in stage_code(stage, project)
    }


def refuse_changed_code(now: dict[str, str], project: Path) -> None:
    """Compare hashes taken now with those of the process's start.

    Raises:
        CodeChangedError: some differ; they are named.
    """
    noted = note_code(project)
    changed = [path for path, digest in now.items() if noted[path] != digest]
    if changed:
        raise CodeChangedError(f"{', '.join(changed)}: edited while this process ran; start it again")


def _imports(file: Path) -> Iterator[str]:
    """Names of the modules, or of what is in them, that a file imports."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif not _is_for_type_checkers(node):
            waiting += ast.iter_child_nodes(node)


def _is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _files_of(module: str, project: Path) -> Iterator[Path]:
    """The files that importing ``module``, or something in a module, executes."""
    parts = module.split(".")
    if parts[0] not in _PACKAGES:
        return
    for depth in range(1, len(parts) + 1):
        path = project.joinpath(*parts[:depth])
        if (path / "__init__.py").is_file():
            yield path / "__init__.py"
        elif path.with_suffix(".py").is_file():
            yield path.with_suffix(".py")


def _folded(files: set[Path], project: Path) -> tuple[str, ...]:
    whole = {
        folder
        for folder in {parent for file in files for parent in file.parents if project in parent.parents}
        if files.issuperset(folder.rglob("*.py"))
    }
    outermost = {
        next((parent for parent in reversed(file.parents) if parent in whole), file) for file in files
    }
    return tuple(sorted(path.relative_to(project).as_posix() for path in outermost))
