"""The command line: thin commands over the library.

Exit status: 0 done, 1 the data or the model failed a check, 2 wrong usage.
"""

import logging
import os
import sys
from typing import NoReturn

import typer
from rich.text import Text

from reconpatch.cli import (
    bench_command,
    data_commands,
    embedding_command,
    evaluate_command,
    export_command,
    fit_command,
    init_command,
    lineage_command,
    params_command,
    predict_command,
    presets_command,
    reproduce_command,
    review_commands,
    robustness_command,
    serve_command,
    update_command,
)
from reconpatch.cli.shared_options import err
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.text.redaction import redact_process

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_commands.app.command()(review_commands.review)
data_commands.app.command()(review_commands.quarantine)
app.add_typer(data_commands.app, name="data")
for _command in (
    init_command.init,
    fit_command.fit,
    update_command.update,
    evaluate_command.evaluate,
    robustness_command.robustness,
    embedding_command.embedding,
    predict_command.predict,
    bench_command.bench,
    lineage_command.lineage,
    params_command.params,
    presets_command.presets,
    reproduce_command.reproduce,
    serve_command.serve,
    export_command.export,
):
    app.command()(_command)


def main() -> None:
    """Run the command line and turn the library's errors into one clear line and an exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    redact_process()
    logging.getLogger("reconpatch").setLevel(logging.INFO)
    try:
        app()
    except SettingsError as error:
        _fail(error, 2)
    except ReConPatchError as error:
        _fail(error, 1)
    except OSError as error:
        _fail(_told(error), 1)


def _told(error: OSError) -> str:
    # Files are written beside their place and then renamed: the second name is the one that was asked for.
    path = error.filename2 or error.filename
    if path is None or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{os.fsdecode(path)}: {error.strerror}"


def _fail(error: ReConPatchError | str, status: int) -> NoReturn:
    from reconpatch.data.file_listing import printable

    line = printable(" ".join(part.strip() for part in str(error).splitlines()))
    err.print(Text.assemble(("error", "red"), f" {line}"), soft_wrap=True)
    sys.exit(status)
