"""The flow that scores a folder of images; what was scored is not scored again.

python -m flows.batch --model models:/reconpatch-demo-brick@champion FOLDER [--output DIR] [--maps]
"""

from pathlib import Path
from typing import Annotated

import typer
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_artifacts import artifact_key
from flows.support.prefect_states import completed, failure_of
from flows.support.retries import RETRY_REGISTRY
from reconpatch.settings import Settings, load_settings
from reconpatch.text.markdown import plain_markdown
from tasks.operations.batch_scoring import Batch, Request, score_folder
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import run_command

_TOLD = 100  # problems in the artifact; the table has them all


@task(
    name="score folder",
    task_run_name="score {request.folder}",
    cache_policy=NO_CACHE,
    persist_result=False,
    **RETRY_REGISTRY,
)
def score(request: Request, settings: Settings, project: Path) -> Batch:
    """Score what has no score yet."""
    return score_folder(request, settings, project)


@flow(name="batch", on_running=[note_process])
def batch(
    model: str,
    folder: Path,
    output: Path | None = None,
    category: str | None = None,
    maps: bool = False,
    log: bool = True,
    project: Path = PROJECT,
) -> Batch:
    """Score a folder of images by a detector; killed and run again it goes on where it was.

    Args:
        model: detector folder or ``models:/`` URI; as ``NAME=MODEL`` known to the log under that name.
        folder: of images, with all folders below; relative to the project, as is ``output``.
        output: for predictions.parquet, predictions.csv and maps/; None: scored/ and the folder's name.
        category: of a unified model.
        maps: whether heat maps are written.
        log: whether the predictions join the log that is checked for drift (``monitor.log``).
        project: root of the project.

    Raises:
        FlowFailedError: the model, the folder or the output cannot be used. An image that cannot be scored
            is listed and stops nothing.
    """
    settings = load_settings(project / PARAMS)
    request = Request(model, folder, output, category, maps, settings.monitor.log if log else None)
    state = score(request, settings, project, return_state=True)
    raise_failures(failure_of(f"score {folder}", state))
    done = state.result()
    name = done.output.name
    create_table_artifact(
        key=artifact_key("batch", name),
        table=[done.row],
        description=plain_markdown(f"Images of {done.folder}"),
    )
    if done.problems:
        told = list(done.problems.items())[:_TOLD]
        create_table_artifact(
            key=artifact_key("batch-problems", name),
            table=[{"path": path, "problem": problem} for path, problem in told],
            description=plain_markdown(f"{len(done.problems)} files of {done.folder} without a score"),
        )
    return completed(str(done), done)


def main(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="of images, with all folders below")],
    model: Annotated[str, typer.Option(help="detector folder or models:/ URI")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="default: scored/ and FOLDER's name")
    ] = None,
    category: Annotated[str | None, typer.Option(help="of a unified model")] = None,
    maps: Annotated[bool, typer.Option("--maps", help="write heat maps too")] = False,
    log: Annotated[bool, typer.Option(help="keep the predictions for drift checks (monitor.log)")] = True,
) -> None:
    """Score a folder of images; what was scored is not scored again.

    Exit status: 0 done, 1 the flow failed, 2 wrong usage.
    """
    read_params()
    with failure_told("batch"):
        done = batch(model, folder, output, category, maps, log)
    for path, problem in done.problems.items():
        print(f"{path}: {problem}")
    print(done)


if __name__ == "__main__":
    run_command(main, "batch")
