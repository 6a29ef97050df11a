"""A check for drift in pictures: what was compared, what stands out, and the checks before it."""

from collections.abc import Sequence

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reconpatch.calibration.held_out_images import IMAGE_STATISTICS, with_image_statistics
from reconpatch.evaluation.report.figure_style import DEFECTIVE, MUTED, NOMINAL, headline, new_figure, tidy
from reconpatch.line.monitoring.drift_checks import DriftCheck

_BINS = 24
_SHOWN = 10  # statistics, those that stand out most


def drift_figure(
    reference: pd.DataFrame,
    window: pd.DataFrame,
    checks: Sequence[DriftCheck],
    threshold: float | None,
    title: str,
) -> Figure:
    """Distributions of held-out and new images, p-values of the statistics, p-values of the checks over time.

    Args:
        reference: as for `find_drift`; images without image statistics are left out here too.
        window: likewise.
        checks: the checks so far; the last one is that of these images.
        threshold: image-score threshold; None: not calibrated.
        title: what it is of.
    """
    check = checks[-1]
    reference, window = with_image_statistics(reference), with_image_statistics(window)
    figure = new_figure(11.0, 6.4, layout="constrained")
    verdict = f"ALARM: {check.moved}" if check.alarm else "no alarm"
    headline(
        figure,
        f"{title}: {verdict}   p = {check.p_value:.2g}, level {check.level:.2g}",
        fontsize=12,
        color=DEFECTIVE if check.alarm else "black",
    )
    axes = figure.subplots(2, 3)
    for axis, name in zip(axes.flat, ("score", *IMAGE_STATISTICS), strict=False):
        _distributions(axis, reference[name].to_numpy(float), window[name].to_numpy(float), name)
    if threshold is not None:
        axes[0, 0].axvline(threshold, color="black", linestyle="--", linewidth=1.2, label="threshold")
    axes[0, 0].legend(fontsize=8, frameon=False)
    _statistics(axes[1, 1], check)
    _history(axes[1, 2], checks)
    return figure


def _distributions(axis: Axes, before: np.ndarray, after: np.ndarray, name: str) -> None:
    edges = np.histogram_bin_edges(np.concatenate([before, after]), bins=_BINS).tolist()
    for values, label, colour in ((before, "held out", NOMINAL), (after, "new", DEFECTIVE)):
        share = np.full(len(values), 1 / len(values))
        told = f"{label} (n = {len(values)})"
        axis.hist(values, edges, weights=share, color=colour, alpha=0.55, label=told)
    axis.set_title(name, fontsize=10, loc="left")
    axis.set_ylabel("share of images", fontsize=8)
    tidy(axis)


def _statistics(axis: Axes, check: DriftCheck) -> None:
    names = sorted(check.shifts, key=check.shifts.__getitem__)[:_SHOWN][::-1]
    sizes = [-np.log10(check.shifts[name]) for name in names]
    colours = [DEFECTIVE if check.alarm and name == check.moved else MUTED for name in names]
    axis.barh(names, sizes, color=colours, alpha=0.8)
    axis.set_title("statistics alone", fontsize=10, loc="left")
    axis.set_xlabel("-log10 p", fontsize=8)
    tidy(axis)


def _history(axis: Axes, checks: Sequence[DriftCheck]) -> None:
    times = mdates.date2num([one.time for one in checks])
    axis.plot(times, [one.p_value for one in checks], "o-", color=NOMINAL, markersize=4, label="check")
    axis.plot(times, [one.level for one in checks], "--", color="black", linewidth=1.0, label="level")
    alarms = [one for one in checks if one.alarm]
    axis.plot(
        mdates.date2num([one.time for one in alarms]),
        [one.p_value for one in alarms],
        "o",
        color=DEFECTIVE,
        label="alarm",
    )
    axis.set_yscale("log")
    locator = mdates.AutoDateLocator(maxticks=5)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))
    axis.set_title("p-value of the latest checks (UTC)", fontsize=10, loc="left")
    axis.legend(fontsize=8, frameon=False)
    tidy(axis)
