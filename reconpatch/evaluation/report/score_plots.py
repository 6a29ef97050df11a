"""Score distributions and curves of a test set."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import checked
from reconpatch.evaluation.report.figure_style import (
    DEFECTIVE,
    MUTED,
    NOMINAL,
    REVIEW,
    headline,
    new_figure,
    tidy,
)
from reconpatch.training.training_loop import TrainingRecord

_FEWEST_BINS, _MOST_BINS = 10, 40


def histogram_figure(
    table: pd.DataFrame,
    threshold: float | None,
    d_prime: float | None,
    title: str,
    review: float | None = None,
) -> Figure:
    """Image scores of good and defective images, with a row of ticks per defect type below.

    Args:
        table: label, defect_type, score.
        threshold: drawn as a line; None draws none.
        d_prime: written above; None is left out.
        title: what it is of.
        review: from here to the threshold lies the band of those to review, shaded; None shades none.

    Raises:
        DataError: the table is empty.
    """
    if not len(table):
        raise DataError("no test image: there is no score to draw")
    scores, labels = table["score"].to_numpy(float), table["label"].to_numpy(int)
    types = ["good", *sorted(set(table["defect_type"]) - {"good"})]
    figure = new_figure(7.2, 3.3 + 0.22 * len(types), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.0, 0.25 * len(types) + 0.2])
    bins = int(np.clip(4 * np.sqrt(scores.size), _FEWEST_BINS, _MOST_BINS))
    edges = np.histogram_bin_edges(scores, bins=bins)
    for label, name, colour in ((0, "good", NOMINAL), (1, "defective", DEFECTIVE)):
        chosen = scores[labels == label]
        if chosen.size:
            upper.hist(chosen, edges, color=colour, alpha=0.65, label=f"{name} (n = {chosen.size})")
    for place, name in enumerate(types):
        chosen = scores[table["defect_type"].to_numpy(str) == name]
        colour = NOMINAL if name == "good" else DEFECTIVE
        lower.plot(chosen, np.full(chosen.size, place), "|", color=colour, markersize=8, alpha=0.7)
    lower.set_yticks(range(len(types)), [name.replace("_", " ") for name in types], parse_math=False)
    lower.set_ylim(len(types) - 0.5, -0.5)
    lower.set_xlabel("image score (feature distance)", fontsize=9)
    upper.set_ylabel("images", fontsize=9)
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in (upper, lower):
        tidy(axis)
        if threshold is not None and review is not None and review < threshold:
            name = f"to review, from {review:.4g}"
            axis.axvspan(review, threshold, color=REVIEW, linewidth=0, zorder=0, label=name)
        if threshold is not None:
            axis.axvline(
                threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:.4g}"
            )
    upper.legend(fontsize=8, frameon=False)
    distance = "" if d_prime is None else f"   d' = {d_prime:.2f}"
    _title(upper, f"{title}: image scores{distance}")
    return figure


def curves_figure(table: pd.DataFrame, threshold: float | None, title: str) -> Figure:
    """ROC and precision-recall of image scores, the detector's threshold marked on both.

    Args:
        table: label and score.
        threshold: an image is rejected above it; None marks nothing.
        title: what it is of.

    Raises:
        DataError: one of the classes is absent.
    """
    labels, scores = checked(table["label"].to_numpy(int), table["score"].to_numpy(float))
    if labels.all():
        raise DataError("no nominal image: the curves are not defined")
    figure = new_figure(8.4, 4.0, layout="constrained")
    headline(figure, f"{title}: image level")
    left, right = figure.subplots(1, 2)
    false_positive, true_positive, _ = roc_curve(labels, scores)
    area = float(np.trapezoid(true_positive, false_positive))
    left.plot(false_positive, true_positive, color=NOMINAL, linewidth=2, label=f"AUROC {area:.4f}")
    left.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":", label="chance")
    left.set(xlabel="false-reject rate (good images rejected)", ylabel="detection rate (defects rejected)")
    precision, recall, _ = precision_recall_curve(labels, scores)
    right.plot(recall, precision, color=DEFECTIVE, linewidth=2, label="precision over recall")
    share = labels.mean()
    right.axhline(share, color=MUTED, linewidth=0.8, linestyle=":", label=f"chance ({share:.2f})")
    right.set(xlabel="recall (detection rate)", ylabel="precision (share of rejected that are defective)")
    if threshold is not None:
        _mark(left, right, labels, scores > threshold)
    for axis in (left, right):
        tidy(axis)
        axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.xaxis.label.set_size(9)
        axis.yaxis.label.set_size(9)
        axis.legend(fontsize=8, frameon=False, loc="lower center")
    return figure


def losses_figure(history: Sequence[TrainingRecord], title: str) -> Figure:
    """Training and validation loss of f, and the ratio of the two below.

    Args:
        history: records of the training, at least one; without validation the lower part stays empty.
        title: what it is of.
    """
    figure = new_figure(7.2, 4.4, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.0, 1.0])
    steps = [record.step for record in history]
    upper.plot(steps, [record.train_loss for record in history], "o-", color=NOMINAL, label="training")
    watched = [record for record in history if record.validation_loss is not None]
    if watched:
        seen = [record.step for record in watched]
        upper.plot(
            seen, [record.validation_loss for record in watched], "o-", color=DEFECTIVE, label="validation"
        )
        lower.plot(seen, [record.ratio for record in watched], "o-", color=MUTED)
    upper.set_ylabel("loss", fontsize=9)
    lower.set_ylabel("validation / training", fontsize=9)
    lower.set_xlabel("steps", fontsize=9)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper.legend(fontsize=8, frameon=False)
    for axis in (upper, lower):
        tidy(axis)
    _title(upper, f"{title}: loss of f")
    return figure


def _title(axis: Axes, text: str) -> None:
    # A category's name may hold a dollar, which begins no formula.
    axis.set_title(text, fontsize=11, fontweight="bold", loc="left", parse_math=False)


def _mark(left: object, right: object, labels: NDArray[np.bool_], rejected: NDArray[np.bool_]) -> None:
    recall = float(rejected[labels].mean())
    marker = {"marker": "o", "markersize": 7, "color": "black", "linestyle": "none", "label": "threshold"}
    left.plot([float(rejected[~labels].mean())], [recall], **marker)  # type: ignore[attr-defined]
    if rejected.any():
        right.plot([recall], [float(labels[rejected].mean())], **marker)  # type: ignore[attr-defined]
