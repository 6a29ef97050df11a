"""The source code that a process runs, against the source code on disk.

A long process keeps the modules it imported, while a record holds hashes of the files. Were a file
edited in between, the record would name code that never ran.
"""

from functools import cache
from pathlib import Path

from reconpatch.errors import ReConPatchError
from tasks.hashing import Hasher
from tasks.stages import STAGES, VARIANTS


class CodeChangedError(ReConPatchError):
    """Source code was edited after this process had started."""


@cache
def note_code(project: Path) -> dict[str, str]:
    """Hashes of the stages' code; those of the first call in a process stay."""
    hasher = Hasher(project)
    return {
        path: hasher.digest(project / path)
        for stage in (*STAGES.values(), *VARIANTS.values())
        for path in stage.code
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
