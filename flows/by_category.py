"""Flows that are run for some categories: which ones, and the command line that they share."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import Settings, load_settings
from tasks.job import PARAMS, PROJECT


def choose_categories(settings: Settings, wanted: Sequence[str]) -> list[str]:
    """The wanted ones in the parameters' order; all where none is wanted.

    Raises:
        SettingsError: the parameters do not name one of them.
    """
    known = settings.pipeline.categories
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SettingsError(
            f"category {', '.join(unknown)}: not among pipeline.categories ({', '.join(known)}); add it there"
        )
    return [name for name in known if not wanted or name in wanted]


def run_command(
    name: str,
    description: str,
    flow: Callable[[Sequence[str]], Iterable[Any]],
    arguments: Sequence[str] | None,
    show: Callable[[Any], str] = str,
) -> None:
    """``python -m flows.<name> [--category NAME ...]``: a line for each of the flow's outcomes.

    Exit status 1 when the flow failed, 2 for wrong parameters.
    """
    parser = argparse.ArgumentParser(prog=f"python -m flows.{name}", description=description)
    parser.add_argument("--category", dest="categories", action="append", default=[])
    given = parser.parse_args(arguments)
    try:
        choose_categories(load_settings(PROJECT / PARAMS), given.categories)
    except SettingsError as error:
        parser.error(str(error))
    try:
        for outcome in flow(given.categories):
            print(show(outcome))
    except ReConPatchError as error:
        sys.exit(f"{name} failed: {error}")
