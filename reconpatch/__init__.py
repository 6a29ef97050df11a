"""ReConPatch: visual anomaly detection from good images only (Hyun et al., WACV 2024)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconpatch.detector import ReConPatch
    from reconpatch.ensemble import Ensemble
    from reconpatch.loading import load
    from reconpatch.prediction import Prediction
    from reconpatch.settings import Settings
    from reconpatch.unified.unified_detector import Unified

__all__ = ["Ensemble", "Prediction", "ReConPatch", "Settings", "Unified", "__version__", "load"]

_HOMES = {
    "Ensemble": "reconpatch.ensemble",
    "Prediction": "reconpatch.prediction",
    "ReConPatch": "reconpatch.detector",
    "Settings": "reconpatch.settings",
    "Unified": "reconpatch.unified.unified_detector",
    "load": "reconpatch.loading",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("reconpatch")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
