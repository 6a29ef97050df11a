"""Who is champion: promote, roll back, and watch for what is moved in the MLflow UI.

python -m flows.promote --model NAME --version N --why "..."
python -m flows.promote --model NAME --rollback --why "..."
python -m flows.promote --watch [--every SECONDS]
python -m flows.promote --model NAME --log
python -m flows.promote --model NAME --mend-log [--dry-run]
"""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import told
from flows.support.heartbeats import note_process
from flows.support.training_summary import publish_gate
from reconpatch.settings import Settings, load_settings
from tasks.registry.champion_change import Promotion
from tasks.registry.mend_log import mend_log
from tasks.registry.promotion import (
    check_promotion,
    check_reason,
    gate_of,
    promote_version,
    promoted_models,
    read_log,
    reconcile,
    roll_back,
)
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import run_command

EVERY_SECONDS = 10.0


@task(name="promote", cache_policy=NO_CACHE, persist_result=False)
def move_champion(model: str, version: str | None, why: str, project: Path) -> Promotion:
    """Move the alias and record it; without a version, back to the champion before."""
    settings = load_settings(project / PARAMS)
    if version is None:
        return roll_back(model, why, settings=settings, project=project)
    try:
        return promote_version(model, version, why, settings=settings, project=project)
    finally:
        report = gate_of(model, version, settings=settings, project=project)
        if report is not None:
            publish_gate(model, version, report)


@flow(name="promote", flow_run_name="{model} {version}", on_running=[note_process])
def promote(model: str, version: str | None, why: str, project: Path = PROJECT) -> Promotion:
    """Make ``version`` of ``model`` the champion; None: the champion before this one.

    Raises:
        ReConPatchError: there is no such version, it is champion already, the gate refuses it, or no reason
            is given.
    """
    return move_champion(model, version, why, project)


def watch_once(settings: Settings, project: Path) -> list[Promotion]:
    """One look at every model: moves made in the UI are logged, and undone where the policy says so."""
    changes = []
    for model in promoted_models(settings, project):
        try:
            changes += reconcile(model, settings=settings, project=project)
        except Exception as error:  # whatever it is, it is of this model
            print(f"{model}: {told(error)}", file=sys.stderr, flush=True)
    return changes


def watch(every: float, settings: Settings, project: Path) -> None:
    """Look again and again; a move is seen ``every`` seconds after it was made, and what a look takes."""
    print(f"watching the aliases every {every:g} s; Ctrl-C ends it", flush=True)
    while True:
        try:
            for change in watch_once(settings, project):
                print(describe(change), flush=True)
        except Exception as error:  # the server may be back at the next look
            print(told(error), file=sys.stderr, flush=True)
        time.sleep(every)


def describe(change: Promotion) -> str:
    """A change of champion in one line."""
    return (
        f"{change.model}: version {change.version} is champion, it was {change.previous or 'nobody'} "
        f"({change.kind} by {change.who}; gate: {change.gate}; event {change.hash[:12]})"
    )


def print_log(model: str, settings: Settings, project: Path) -> None:
    """The log of a model's champions, verified."""
    entries = read_log(model, settings=settings, project=project)
    for entry in entries:
        event = entry.event
        state = {"FINISHED": "", "FAILED": " [given up]"}.get(entry.status, " [half done]")
        print(
            f"{event.sequence:4} {event.when} {event.kind}: {event.from_version} to {event.to_version} by "
            f"{event.who}: {event.why} (gate: {event.gate}){state}"
        )
    head = entries[-1].event.hash if entries else "none"
    print(f"{len(entries)} events, the chain verifies; last hash {head}")


def print_mending(model: str, settings: Settings, project: Path, *, dry_run: bool) -> None:
    """Mend the log of a model's champions, or say what would be done."""
    faults = mend_log(model, dry_run=dry_run, settings=settings, project=project)
    for fault in faults:
        print(fault)
    if not faults:
        print("the chain verifies, there is nothing to mend")
    elif dry_run:
        print("an event `mend` that says so would be appended; without --dry-run it is")
    else:
        print_log(model, settings, project)


def main(
    model: Annotated[str | None, typer.Option(help="registered model, such as reconpatch-demo-brick")] = None,
    version: Annotated[str | None, typer.Option(help="number of the version that becomes champion")] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="back to the champion before this one")
    ] = False,
    why: Annotated[str | None, typer.Option(help="the reason, for those who ask later")] = None,
    log: Annotated[bool, typer.Option("--log", help="print the model's log and verify it")] = False,
    mending: Annotated[
        bool, typer.Option("--mend-log", help="append what explains a log that two copies wrote at once")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --mend-log: only say what is wrong")
    ] = False,
    watching: Annotated[bool, typer.Option("--watch", help="log what is moved in the MLflow UI")] = False,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", help="with --watch: between two looks")
    ] = EVERY_SECONDS,
) -> None:
    """Make a version the champion, and know who did.

    Exit status: 0 done, 1 the champion stays who it was, 2 wrong usage.
    """
    settings = read_params()
    if watching:
        with suppress(KeyboardInterrupt):
            watch(every, settings, PROJECT)
        return
    if model is None:
        raise typer.BadParameter("give --model (or --watch)")
    with failure_told("promote"):
        if log:
            print_log(model, settings, PROJECT)
            return
        if mending:
            print_mending(model, settings, PROJECT, dry_run=dry_run)
            return
        if why is None or rollback == (version is not None):
            raise typer.BadParameter("give --why, and one of --version and --rollback")
        # Told in one line here, where Prefect would log the whole way to it twice.
        if version is None:
            check_reason(why)
        else:
            check_promotion(model, version, why, settings=settings, project=PROJECT)
        done = promote(model, version, why)
    print(describe(done))


if __name__ == "__main__":
    run_command(main, "promote")
