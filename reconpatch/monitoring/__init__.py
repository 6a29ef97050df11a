"""Whether what a detector sees now is still what it was calibrated on."""

from reconpatch.monitoring.drift import Drift, find_drift

__all__ = ["Drift", "find_drift"]
