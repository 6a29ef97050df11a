"""Flows that are run for some categories: which ones."""

from collections.abc import Sequence

from reconpatch.errors import SettingsError
from reconpatch.settings import Settings


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
