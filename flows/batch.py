"""The flow that scores a folder of images; what was scored is not scored again.

python -m flows.batch --model models:/reconpatch-demo-brick@champion FOLDER [--output DIR] [--maps]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit status 1 when the flow failed, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m flows.batch", description="Score a folder of images.")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--model", required=True, help="detector folder or models:/ URI")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: scored/ and FOLDER's name")
    parser.add_argument("--category", help="of a unified model")
    parser.add_argument("--maps", action="store_true", help="write heat maps too")
    parser.add_argument("--log", action=argparse.BooleanOptionalAction, default=True, help="monitor.log")
    given = parser.parse_args(arguments)
    read_params(parser)
    with failure_told("batch"):
        done = batch(given.model, given.folder, given.output, given.category, given.maps, given.log)
    for path, problem in done.problems.items():
        print(f"{path}: {problem}")
    print(done)


if __name__ == "__main__":
    main()
