"""`reconpatch init`: the user's own images into the project."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    images: Annotated[Path, typer.Argument(help="your images: one category, or a folder of categories")],
    name: Annotated[str | None, typer.Option(help="name of the data set; default: the folder's")] = None,
    project: Annotated[Path, typer.Option(help="root of the project")] = Path(),
) -> None:
    """Bring your own images: data/<name>.dvc and params.yaml, ready for `python -m flows.train`."""
    from reconpatch.integrations.project import initialise

    done = initialise(images, project, name)
    typer.echo(f"{done.dataset}: {', '.join(done.categories)} in {done.root}, versioned by {done.dvc_file}")
    for line in done.promises:
        typer.echo(line)
    typer.echo(f"Next: git add params.yaml {done.dvc_file}; git commit; python -m flows.train")
