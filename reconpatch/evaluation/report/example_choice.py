"""Which test images people should look at, and on which colours."""

import pandas as pd

from reconpatch.calibration.calibration import Calibration
from reconpatch.evaluation.evaluation_result import ColourScale
from reconpatch.evaluation.score_summary import Metrics


def choose_examples(scores: pd.DataFrame, count: int) -> dict[int, str]:
    """Choose images by a fixed rule: the hardest defects, the hardest good images, and typical ones.

    The hardest defects are those of lowest score (misses, if there are any), the hardest good images those of
    highest score (false rejects, if there are any), one of a group. Typical is the image of median score of
    each defect type by name, and then of ``good``. The hardest take at most a third of the places for each
    class, and a quarter where there are many types; places left over go to the next by score.

    Args:
        scores: a row an image: path, label, defect_type, group, score; index 0 to N - 1.
        count: most images chosen.

    Returns:
        Row number -> reason, in the order in which they should be shown.
    """
    ordered = scores.sort_values(["score", "path"], kind="stable")
    defective, nominal = ordered[ordered["label"] == 1], ordered[ordered["label"] == 0][::-1]
    types = [*sorted(set(defective["defect_type"])), "good"]
    share = max(count // 4, min(count // 3, (count - len(types)) // 2))
    chosen: dict[int, str] = {}
    for rows, reason in ((defective, "lowest score among defects"), (nominal, "highest score among good")):
        chosen |= dict.fromkeys(rows.drop_duplicates("group").index[:share], reason)
    for name in types:
        members = ordered.index[ordered["defect_type"] == name]
        if len(members):
            chosen.setdefault(members[len(members) // 2], f"median of {name}")
    for index in [*defective.index, *nominal.index]:
        chosen.setdefault(index, "next by score")
    return dict(list(chosen.items())[:count])


def colour_scale(
    scores: pd.DataFrame, calibration: Calibration | None, metrics: Metrics
) -> ColourScale | None:
    """One scale for all maps of a category; None without a test image.

    It starts at the median pixel of nominal images and ends where a tenth of the defective maps (of all
    maps, when none is defective) have their maximum, so that a single glaring image does not dim the others.
    The contour lies at the pixels' F1-optimal threshold where there is ground truth, else at the
    detector's pixel threshold.

    Args:
        scores: label, map_median, map_max of each test image.
        calibration: the detector's.
        metrics: for ``pixel_f1_threshold``.
    """
    if not len(scores):
        return None
    nominal, defective = scores[scores["label"] == 0], scores[scores["label"] == 1]
    if calibration is not None:
        low = calibration.pixels.median
    else:
        low = float((nominal if len(nominal) else scores)["map_median"].median())
    high = float((defective if len(defective) else scores)["map_max"].quantile(0.9))
    contour, name = metrics.get("pixel_f1_threshold"), "best pixel F1"
    if contour is None and calibration is not None:
        contour, name = calibration.pixel_threshold.value, "pixel threshold"
    if contour is not None:
        high = max(high, low + 2 * (contour - low))
    return ColourScale(low, max(high, low + 1e-6), contour, name if contour is not None else "")
