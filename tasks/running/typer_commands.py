"""How a command of the pipeline is run: the options that most take, and its exit status.

Exit status: 0 done, 1 failed, 2 wrong usage.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.text.redaction import redact_process

Params = Annotated[Path | None, typer.Option("--params", help="params file; default: params.yaml")]
Preset = Annotated[
    str | None, typer.Option("--preset", help="named parameters, which go before the params file")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="section.key=value", help="one parameter, repeatable")
]
Categories = Annotated[
    list[str] | None, typer.Option("--category", help="repeatable; default: all of pipeline.categories")
]


def run_command(command: Callable[..., None], name: str, arguments: Sequence[str] | None = None) -> None:
    """Run a function as the command that its signature and its docstring describe.

    Args:
        command: annotated for typer.
        name: of the command, for "NAME failed: ...".
        arguments: of the command line; None: those of this process.

    Raises:
        SystemExit: the command failed, or was used wrongly.
    """
    # Plain text: what is read in a terminal, a log of a service and by tests alike.
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        app(arguments)
    except SystemExit as left:
        if left.code:
            raise
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ReConPatchError as error:
        sys.exit(f"{name} failed: {error}")


def show_progress() -> None:
    """Log what the pipeline says of its progress to stderr, without secrets; of others only warnings."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    redact_process()
    for name in ("tasks", "reconpatch"):
        logging.getLogger(name).setLevel(logging.INFO)
