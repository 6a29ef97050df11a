"""``--category`` of a unified model: whose bank and threshold count."""

from typing import TYPE_CHECKING, Annotated

import typer

from reconpatch.cli.shared_options import err

if TYPE_CHECKING:
    from reconpatch.fitted_detector import FittedDetector
    from reconpatch.unified.unified_detector import Unified

CategoryOption = Annotated[
    str | None, typer.Option("--category", help="of a unified model: whose bank and threshold count")
]


def detector_of(detector: "FittedDetector", category: str | None) -> "FittedDetector":
    """The detector of the category that --category names; without a name the one given.

    Raises:
        SettingsError: a category is named, and the detector is of one alone.
        ModelError: the unified model was not fitted on it.
    """
    from reconpatch.unified.unified_detector import Unified, choose_category

    if isinstance(detector, Unified):
        warn_if_pooled(detector, category)
    return choose_category(detector, category)


def warn_if_pooled(detector: "Unified", category: str | None) -> None:
    """Say that a unified model without --category judges by its pooled threshold."""
    if category is None:
        err.print(
            f"no category of the model ({', '.join(detector.categories)}) is named, so the pooled threshold "
            "counts, which promises no false-reject rate for any one of them; name one by --category",
            soft_wrap=True,
        )
