"""Old versions, runs and caches, thrown away by the policy in params.yaml (section housekeeping).

python -m flows.housekeeping [--no-dry-run]
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.support.command_line import failure_told, read_params
from flows.support.heartbeats import note_process
from flows.support.prefect_states import completed
from reconpatch.settings import load_settings
from tasks.operations.housekeeping import Removal, find_removals, remove
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import run_command


@task(name="housekeeping", cache_policy=NO_CACHE, persist_result=False)
def tidy(project: Path, dry_run: bool) -> list[Removal]:
    """Find what goes, and remove it unless it is a dry run."""
    settings = load_settings(project / PARAMS)
    return find_removals(settings, project) if dry_run else remove(settings, project)


@flow(name="housekeeping", on_running=[note_process])
def housekeeping(dry_run: bool = True, project: Path = PROJECT) -> list[Removal]:
    """List what the policy throws away; remove it where ``dry_run`` is false.

    Raises:
        ReConPatchError: MLflow cannot be asked; nothing was removed.
    """
    found = tidy(project, dry_run)
    if found:
        rows = [{key: str(value) for key, value in asdict(one).items() if key != "paths"} for one in found]
        create_table_artifact(
            key="housekeeping", table=rows, description="To be removed" if dry_run else "Removed"
        )
    return completed(describe(found, dry_run), found)


def describe(found: Sequence[Removal], dry_run: bool) -> str:
    """One line for people."""
    if not found:
        return "nothing to remove"
    size = sum(one.bytes for one in found) / 2**20
    verb = "would be removed (dry run; --no-dry-run removes)" if dry_run else "removed"
    return f"{len(found)} things, {size:.1f} MiB here, {verb}"


def main(dry_run: Annotated[bool, typer.Option(help="only list what would be removed")] = True) -> None:
    """Throw away the versions, runs and caches that nobody needs by the policy in params.yaml.

    Exit status: 0 done, 1 MLflow cannot be asked, 2 wrong parameters.
    """
    read_params()
    with failure_told("housekeeping"):
        found = housekeeping(dry_run)
    for one in found:
        print(f"{one.kind} {one.what}: {one.why}")
    print(describe(found, dry_run))


if __name__ == "__main__":
    run_command(main, "housekeeping")
