"""`reconpatch init`: the user's own images into the project."""

from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.data_commands import show_reports


def init(
    images: Annotated[Path, typer.Argument(help="your images: one category, or a folder of categories")],
    name: Annotated[str | None, typer.Option(help="name of the data set; default: the folder's")] = None,
    project: Annotated[Path, typer.Option(help="root of the project")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="also where the data checks fail")] = False,
) -> None:
    """Check and bring your own images: data/<name>.dvc and params.yaml, ready for `python -m flows.train`.

    Exit status 1, and nothing done, when a check that training would stop at fails.
    """
    from reconpatch.integrations.check_report import ChecksFailedError
    from reconpatch.integrations.project_init import initialise

    try:
        done = initialise(images, project, name, force=force)
    except ChecksFailedError as error:
        show_reports(error.reports)
        raise
    show_reports(done.reports)
    typer.echo(f"{done.dataset}: {', '.join(done.categories)} in {done.root}, versioned by {done.dvc_file}")
    for line in done.promises:
        typer.echo(line)
    typer.echo(f"Next: git add params.yaml {done.dvc_file}; git commit; python -m flows.train")
