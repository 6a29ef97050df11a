"""The command lines that flows share; exit status 1 when the flow failed, 2 for wrong parameters."""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.support.category_choice import choose_categories
from flows.support.flow_failures import ended_by_caller
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import Settings, load_settings
from tasks.running.stage_folders import PARAMS, PROJECT


def read_params(
    parser: argparse.ArgumentParser,
    file: Path | None = None,
    overrides: Sequence[str] = (),
    categories: Sequence[str] = (),
    **named: Any,
) -> Settings:
    """The parameters (default: params.yaml) before a flow starts a server; exit status 2 for wrong ones."""
    try:
        settings = load_settings(file or PROJECT / PARAMS, overrides, **named)
        choose_categories(settings, categories)
    except SettingsError as error:
        parser.error(str(error))
    return settings


@contextmanager
def failure_told(name: str) -> Iterator[None]:
    """Around a flow: why it failed is the last that is printed, and the exit status 1."""
    try:
        with ended_by_caller():
            yield
    except ReConPatchError as error:
        sys.exit(f"{name} failed: {error}")


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
    read_params(parser, categories=given.categories)
    with failure_told(name):
        outcomes = flow(given.categories)
    for outcome in outcomes:
        print(show(outcome))


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
    read_params(parser, given.params, given.overrides, **named)
    with failure_told(name):
        return flow(given.params, given.overrides, **named)
