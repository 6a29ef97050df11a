"""``python -m tasks.stages train --category brick --backbone NAME`` runs one stage; so does `dvc repro`."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from reconpatch.settings.pipeline_sections import ALL
from reconpatch.text.redaction import redact_process
from tasks.running.run_stage import run_stage
from tasks.running.stage_folders import PARAMS, PROJECT, Job, outputs_folder
from tasks.running.stage_table import STAGES

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    name: Annotated[str, typer.Argument(metavar="STAGE", help=", ".join(STAGES))],
    category: Annotated[str | None, typer.Option(help="category; not of a stage for all categories")] = None,
    backbone: Annotated[str | None, typer.Option(help="timm model, of a stage that runs for each")] = None,
    params: Annotated[Path, typer.Option(help="the parameters")] = PROJECT / PARAMS,
) -> None:
    """Run one stage of the pipeline; exit status 1 when it fails, 2 for wrong usage."""
    if name not in STAGES:
        raise typer.BadParameter(f"{name}: is none of {', '.join(STAGES)}", param_hint="STAGE")
    stage = STAGES[name]
    for option, value, wanted in (
        ("--category", category, not stage.unifies),
        ("--backbone", backbone, stage.per_backbone),
    ):
        if (value is not None) != wanted:
            need = "is missing" if wanted else "does not apply"
            raise typer.BadParameter(f"{need} for stage {name}", param_hint=option)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    redact_process()
    try:
        settings = load_settings(params)
        if stage.unifies and backbone not in settings.pipeline.unify:
            raise SettingsError(f"{backbone}: is not among pipeline.unify; add it there")
        job = Job(settings, category or ALL, backbone, PROJECT, outputs_folder(settings, PROJECT))
        run_stage(name, job)
    except ReConPatchError as error:
        sys.exit(f"{name} failed: {error}")


if __name__ == "__main__":
    app()
