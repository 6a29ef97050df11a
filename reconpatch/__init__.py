"""ReConPatch: visual anomaly detection from good images only (Hyun et al., WACV 2024)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconpatch.detector import Prediction, ReConPatch

__all__ = ["Prediction", "ReConPatch"]


def __getattr__(name: str) -> Any:
    """Import the detector, and with it torch, only when it is asked for: `--help` stays quick."""
    if name in __all__:
        return getattr(import_module("reconpatch.detector"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
