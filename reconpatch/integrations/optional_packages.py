"""Import a package that only an extra brings, or say how to get it."""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType

from reconpatch.errors import ReConPatchError
from reconpatch.integrations.telemetry import switch_off


def import_extra(name: str, purpose: str, extra: str = "pipeline") -> ModuleType:
    """Import ``name``, a package of an extra, with its telemetry off.

    Args:
        name: module name, such as ``great_expectations``.
        purpose: what it is needed for, for the message.
        extra: the extra that brings it.

    Raises:
        ReConPatchError: the package is not installed.
    """
    switch_off()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise
        raise ReConPatchError(
            f"{purpose} needs the package {name}, which is not installed: pip install 'reconpatch[{extra}]'"
        ) from None


def require_environment(package: str) -> None:
    """End the process, in one line, where the Python that runs it has not got the project's packages.

    Args:
        package: one without which nothing here runs.
    """
    if find_spec(package) is None:
        sys.exit(
            f"{sys.executable} has no package {package}: activate the project's environment with `source "
            ".venv/bin/activate` in its folder (`make setup` makes it), then run the same again"
        )
