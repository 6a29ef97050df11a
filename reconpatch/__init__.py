"""ReConPatch: visual anomaly detection from good images only (Hyun et al., WACV 2024)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconpatch.detector import ReConPatch
    from reconpatch.prediction import Prediction

__all__ = ["Prediction", "ReConPatch"]

_HOMES = {"Prediction": "reconpatch.prediction", "ReConPatch": "reconpatch.detector"}


def __getattr__(name: str) -> Any:
    """Import the detector, and with it torch, only when it is asked for: `--help` stays quick."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
