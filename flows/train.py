"""The training flow: every stage for every category and backbone, registration, the gate, and the commits.

python -m flows.train [--params FILE] [--preset NAME] [--set section.key=value ...]
"""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, get_run_logger, runtime

from flows.support.command_line import failure_told, read_params
from flows.support.flow_failures import raise_failures
from flows.support.heartbeats import note_process
from flows.support.prefect_states import failure_of
from flows.support.register_and_commit import nominate, record, register
from flows.support.stage_graph import run_stages
from flows.support.training_summary import print_table, publish_table, summarise
from reconpatch.calibration.promise import promise_line
from reconpatch.settings import load_settings
from tasks.running.content_hashes import hasher_of
from tasks.running.source_code import note_code
from tasks.running.stage_folders import PARAMS, PROJECT, is_recorded, outputs_folder
from tasks.running.stage_table import EVALUATIONS
from tasks.running.typer_commands import Overrides, Params, Preset, run_command


@flow(name="train", on_running=[note_process])
def train(
    params: Path | None = None,
    overrides: Sequence[str] = (),
    project: Path = PROJECT,
    preset: str | None = None,
) -> list[dict[str, str]]:
    """Run the whole pipeline.

    Categories and backbones are independent: one that fails stops none of the others, and what is
    done stays done; the flow then ends as failed with every message.

    Args:
        params: params file; None is the project's params.yaml.
        overrides: ``section.key=value`` texts; the outputs then go to ``runs/<digest>``.
        project: root of the project.
        preset: name of a preset, which goes before the params file; the outputs then go there too.

    Returns:
        One row of metrics a detector.

    Raises:
        SettingsError: a parameter is unknown or out of range; nothing was started.
        FlowFailedError: a stage, the registration or the commit failed.
    """
    settings = load_settings(params or project / PARAMS, overrides, preset=preset)
    outputs = outputs_folder(settings, project)
    of_params = is_recorded(outputs, project)
    note_code(project)

    hasher = hasher_of(project)
    for category in settings.pipeline.categories:
        line = promise_line(category, project / settings.pipeline.root / category, settings, hasher.file)
        if line is not None:
            get_run_logger().info(line)
    hasher.remember()
    finished, failures = run_stages(settings, project, outputs)
    evaluations = [item for item in finished if item.stage in EVALUATIONS]
    rows = summarise(evaluations)
    if rows:
        print_table(rows, f"{settings.pipeline.dataset} ({outputs})")
        publish_table(rows, settings.pipeline.dataset)
        registered = register(settings, evaluations, str(runtime.flow_run.id), return_state=True)
        failures += failure_of("register", registered)
        # A run beside params.yaml is a try: its versions are no candidates, and DVC does not record it.
        if of_params and registered.is_completed():
            named = nominate(settings, evaluations, registered.result(), return_state=True)
            failures += failure_of("gate", named)
    if of_params:
        failures += record(settings, finished, project)
    raise_failures(failures)
    if not any(item.ran for item in finished):
        get_run_logger().info("Nothing to do: every stage was up to date")
    return rows


def main(params: Params = None, preset: Preset = None, overrides: Overrides = None) -> None:
    """Run every stage for every category and backbone, then register and record what came out.

    Exit status: 0 done, 1 the flow failed, 2 wrong parameters.
    """
    read_params(params, overrides, preset=preset)
    with failure_told("train"):
        train(params, overrides or (), preset=preset)


if __name__ == "__main__":
    run_command(main, "train")
