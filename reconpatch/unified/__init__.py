"""One model for all categories: f trained on every category at once, one bank for all or one a category."""

from reconpatch.unified.detector import Unified, choose_category, fit_unified
from reconpatch.unified.evaluation import evaluate_all, evaluate_category

__all__ = ["Unified", "choose_category", "evaluate_all", "evaluate_category", "fit_unified"]
