"""The command lines of flows: read the parameters before a server starts, and report a failure."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.support.category_choice import choose_categories
from flows.support.flow_failures import ended_by_caller
from reconpatch.errors import ReConPatchError
from reconpatch.settings import Settings, load_settings
from tasks.running.stage_folders import PARAMS, PROJECT


def read_params(
    file: Path | None = None,
    overrides: Sequence[str] | None = None,
    *,
    preset: str | None = None,
    categories: Sequence[str] | None = None,
) -> Settings:
    """The parameters (default: params.yaml) before a flow starts a server.

    Raises:
        SettingsError: they are wrong, or do not name one of the categories; as a command wrong usage.
    """
    settings = load_settings(file or PROJECT / PARAMS, overrides or (), preset=preset)
    choose_categories(settings, categories or ())
    return settings


@contextmanager
def failure_told(name: str) -> Iterator[None]:
    """Around a flow: why it failed is the last that is printed, and the exit status 1."""
    try:
        with ended_by_caller():
            yield
    except ReConPatchError as error:
        sys.exit(f"{name} failed: {error}")
