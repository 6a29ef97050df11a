"""Load a fitted detector of whatever kind."""

from pathlib import Path

from reconpatch.detector import ReConPatch
from reconpatch.ensemble import Ensemble
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.fitted_detector import FittedDetector
from reconpatch.storage.detector_config import ENSEMBLE, UNIFIED, read_config
from reconpatch.storage.detector_source import local_folder
from reconpatch.unified.unified_detector import Unified


def load(
    source: str | Path,
    *,
    device: str = "auto",
    threads: int = 0,
    cache: str | Path | FeatureCache | None = None,
) -> FittedDetector:
    """Read a fitted detector: a `ReConPatch`, an `Ensemble` or a `Unified`.

    Args:
        source: a detector folder, or an MLflow URI such as ``models:/reconpatch-demo-brick@champion``.
        device: ``auto``, ``cpu`` or ``cuda[:n]``; it belongs to this machine, not to the detector.
        threads: CPU threads; 0 takes every core.
        cache: the feature cache or its folder.

    Raises:
        ModelError: something is missing, cut short, altered, or of another schema or backbone.
    """
    folder = local_folder(source)
    kind = read_config(folder).get("kind")
    if kind == ENSEMBLE:
        return Ensemble.load(folder, device=device, threads=threads, cache=cache)
    if kind == UNIFIED:
        return Unified.load(folder, device=device, threads=threads, cache=cache)
    return ReConPatch.load(folder, device=device, threads=threads, cache=cache)
