"""How good a detector is: metrics, pictures, reports."""

from reconpatch.evaluation.metrics.image_metrics import aupro, d_prime, f1_max, image_auroc, pixel_auroc
from reconpatch.evaluation.metrics.intervals import auroc_interval
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics, PixelResult

__all__ = [
    "PixelMetrics",
    "PixelResult",
    "aupro",
    "auroc_interval",
    "d_prime",
    "f1_max",
    "image_auroc",
    "pixel_auroc",
]
