"""Thresholds from labelled defects, chosen on a part of the test groups that the evaluation never sees."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reconpatch.data.groups import hold_out_groups, join_groups
from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import checked, f1_max, rejections
from reconpatch.evaluation.score_summary import Metrics, Reasons
from reconpatch.settings import EvaluateSettings


def choosing_part(test: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    """Which test images choose thresholds: whole groups, with and without defects in proportion.

    Args:
        test: label, group and sha256 of each test image; images of the same content are of one group.
        share: of the images, in [0, 0.5].
        seed: of the choice.

    Returns:
        (N,) bool.
    """
    groups = np.array(join_groups(test["group"].tolist(), test["sha256"].tolist()), dtype=str)
    defective = np.isin(groups, groups[test["label"].to_numpy(int) == 1])
    chosen = np.zeros(len(test), dtype=bool)
    for stratum in (defective, ~defective):
        chosen[stratum] = hold_out_groups(groups[stratum].tolist(), share, seed)
    return chosen


def cost_optimal(labels: ArrayLike, scores: ArrayLike, miss_cost: float, false_reject_cost: float) -> float:
    """The threshold above which rejecting has the least total cost; of equally good ones the largest.

    Args:
        labels: (N,) 0 nominal, 1 defective.
        scores: (N,) finite.
        miss_cost: of a defect that is accepted, above 0.
        false_reject_cost: of a good part that is rejected, above 0.

    Returns:
        A value half way between two scores, the largest score (nothing is rejected), or the next float below
        the smallest (everything is).

    Raises:
        DataError: there is no defective image, or the arrays do not fit.
    """
    levels, rejected, found = rejections(*checked(labels, scores))
    gains = np.concatenate([[0.0], found * miss_cost - (rejected - found) * false_reject_cost])
    best = int(np.argmax(gains))
    if best == 0:
        return float(levels[0])
    if best == levels.size:
        return float(np.nextafter(levels[-1], -np.inf))
    return float(levels[best] + (levels[best - 1] - levels[best]) / 2)


def measure_chosen_thresholds(
    chosen: pd.DataFrame, seen: pd.DataFrame, settings: EvaluateSettings, metrics: Metrics, reasons: Reasons
) -> None:
    """Add ``f1_chosen_...`` and ``cost_chosen_...``: threshold, both rates on images that did not choose it.

    Args:
        chosen: label and score of the images that choose.
        seen: of those that are evaluated.
        settings: the two costs.
        metrics: added to; ``n_choose`` too.
        reasons: added to.
    """
    metrics["n_choose"] = len(chosen)
    labels, scores = chosen["label"].to_numpy(int), chosen["score"].to_numpy(float)
    costs = settings.miss_cost, settings.false_reject_cost
    choices: dict[str, Callable[[], float]] = {
        "f1_chosen": lambda: f1_max(labels, scores)[1],
        "cost_chosen": lambda: cost_optimal(labels, scores, *costs),
    }
    for name, choose in choices.items():
        names = [f"{name}_{part}" for part in ("threshold", "false_reject_rate", "detection_rate")]
        try:
            threshold = choose()
            rates = [_share_above(seen[seen["label"] == label]["score"], threshold) for label in (0, 1)]
        except DataError as error:
            metrics.update(dict.fromkeys(names))
            reasons.update(dict.fromkeys(names, str(error)))
            continue
        metrics.update(zip(names, [threshold, *rates], strict=True))


def _share_above(scores: "pd.Series[float]", threshold: float) -> float:
    if not len(scores):
        raise DataError("one class has no image left to evaluate on")
    return float((scores > threshold).mean())
