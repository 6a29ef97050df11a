"""Metrics of image scores at one threshold: the best for F1, and the detector's own."""

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import ImageScores, f1_max
from reconpatch.evaluation.metrics.intervals import share_interval

_ABSENT = {0: "no nominal test image", 1: "no defective test image"}


def best_f1(images: ImageScores) -> tuple[float, float]:
    """The best F1 and its threshold.

    Raises:
        DataError: a class is absent.
    """
    if images.labels.all():
        raise DataError("no nominal image: F1 is undefined without nominal images")
    return f1_max(images.labels, images.scores)


def own_threshold(images: ImageScores) -> float:
    """The detector's threshold.

    Raises:
        DataError: it has none.
    """
    if images.threshold is None:
        raise DataError("the detector is not calibrated: no nominal images were held out")
    return images.threshold


def rejected_share(images: ImageScores, label: int) -> float:
    """Share of the images of a class whose score is above the detector's threshold.

    Args:
        images: of the test set.
        label: 0 for the false-reject rate, 1 for the detection rate.

    Raises:
        DataError: the class has no image, or the detector no threshold.
    """
    return float(_rejected(images, label)[0].mean())


def rejected_interval(images: ImageScores, label: int) -> tuple[float, float]:
    """95 % interval of `rejected_share`, by group.

    Raises:
        DataError: as `rejected_share`, or the class has fewer than 5 groups.
    """
    return share_interval(*_rejected(images, label))


def _rejected(images: ImageScores, label: int) -> tuple[NDArray[np.bool_], NDArray[np.str_]]:
    rows = images.labels == label
    if not rows.any():
        raise DataError(_ABSENT[label])
    return images.scores[rows] > own_threshold(images), images.groups[rows]
