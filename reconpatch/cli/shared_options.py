"""Arguments and options that several commands share, and how they write."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

Params = Annotated[Path | None, typer.Option("--params", help="params file; default: the built-in defaults")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="named parameters; `reconpatch presets` lists them")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value, repeatable; `reconpatch params` lists them"),
]
Json = Annotated[Path | None, typer.Option("--json", help="also write the result as JSON")]
Model = Annotated[str, typer.Argument(help="detector folder or MLflow URI (models:/name@alias)")]
Images = Annotated[list[Path], typer.Argument(help="images, or folders of images")]
Log = Annotated[
    Path | None,
    typer.Option("--log", envvar="RECONPATCH_LOG", help="folder of the prediction log; default: none"),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda[:n]")]

# Paths and reasons are the user's text: what looks like markup or an emoji code in them is none.
console = Console(markup=False, emoji=False, highlight=False)
err = Console(markup=False, emoji=False, highlight=False, stderr=True)


def write(path: Path | None, value: Any) -> None:
    """Write ``value`` as JSON where ``--json`` asked for it."""
    from reconpatch.storage.atomic_files import write_json

    if path is not None:
        write_json(path, value)


def count(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
