"""The command lines that flows share; exit status 1 when the flow failed, 2 for wrong parameters."""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flows.by_category import choose_categories
from flows.failures import FlowFailedError
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from tasks.job import PARAMS, PROJECT


def run_by_category(
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


def run_with_params(
    name: str,
    description: str,
    flow: Callable[..., Any],
    arguments: Sequence[str] | None,
    *,
    presets: bool = False,
) -> Any:
    """``python -m flows.<name> [--params FILE] [--set section.key=value ...]``: what the flow returns.

    The flow takes a params file, overrides, and with ``presets`` a preset by its name.
    """
    parser = argparse.ArgumentParser(prog=f"python -m flows.{name}", description=description)
    parser.add_argument("--params", type=Path, help="params file; default: params.yaml")
    if presets:
        parser.add_argument("--preset", help="named parameters, which go before the params file")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    given = parser.parse_args(arguments)
    named = {"preset": given.preset} if presets else {}
    try:
        load_settings(given.params or PROJECT / PARAMS, given.overrides, **named)
    except SettingsError as error:
        parser.error(str(error))
    try:
        return flow(given.params, given.overrides, **named)
    except FlowFailedError as error:
        sys.exit(str(error))
