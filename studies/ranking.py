"""How well a nominal-only judgement ranks candidates, against the test labels that it never saw."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from reconpatch.evaluation.report.figure_style import DEFECTIVE, MUTED, NOMINAL, headline, new_figure, tidy
from studies.nominal_objective import OBJECTIVES, REPORTED

_FEWEST = 4
_NAMES = {
    "synthetic_image_auroc": "image AUROC of synthetic defects",
    "synthetic_pixel_auroc": "pixel AUROC of synthetic defects",
    "synthetic_d_prime": "d' of synthetic defects",
}


@dataclass(frozen=True)
class Ranking:
    """Agreement of one judgement with the test set.

    Attributes:
        rho: Spearman's rank correlation with the test image AUROC over the trials, in [-1, 1]; None where
            it is not defined (fewer than 4 trials, or all equal).
        p: two-sided p-value of no correlation; None likewise.
        regret: test image AUROC of the best trial less that of the trial which this judgement prefers.
    """

    rho: float | None
    p: float | None
    regret: float


def rank(trials: pd.DataFrame) -> dict[str, Ranking]:
    """Rank every nominal-only figure of the trials against the test image AUROC.

    Args:
        trials: a row a trial, with `OBJECTIVES` and ``test_image_auroc``.
    """
    found = {}
    reported = trials[REPORTED]
    for name in OBJECTIVES:
        preferred = reported.iloc[int(trials[name].argmax())]
        rho: float | None = None
        p: float | None = None
        if len(trials) >= _FEWEST and trials[name].nunique() > 1 and reported.nunique() > 1:
            rho, p = (float(value) for value in spearmanr(trials[name], reported))
        found[name] = Ranking(rho, p, float(reported.max() - preferred))
    return found


def ranking_figure(
    trials: pd.DataFrame, patchcore: Mapping[str, float], ranking: Mapping[str, Ranking], title: str
) -> Figure:
    """Test image AUROC of every trial over each nominal-only figure; the start and PatchCore are marked.

    Args:
        trials: as for `rank`, the first row being the parameters that the search started from.
        patchcore: the same figures of PatchCore.
        ranking: of `rank`.
        title: what it is of.
    """
    figure = new_figure(10.2, 3.8, layout="constrained")
    headline(figure, title)
    for place, (axis, name) in enumerate(zip(figure.subplots(1, 3, sharey=True), OBJECTIVES, strict=True)):
        axis.scatter(trials[name], 100 * trials[REPORTED], s=28, color=NOMINAL, alpha=0.8, label="trial")
        start = trials.iloc[0]
        axis.scatter(
            [start[name]],
            [100 * start[REPORTED]],
            s=70,
            marker="D",
            color=DEFECTIVE,
            label="parameters given",
        )
        axis.scatter(
            [patchcore[name]], [100 * patchcore[REPORTED]], s=60, marker="s", color=MUTED, label="PatchCore"
        )
        rho = ranking[name].rho
        axis.set_title("not defined" if rho is None else f"Spearman {rho:+.2f}", fontsize=9, loc="left")
        axis.set_xlabel(_NAMES[name], fontsize=9)
        tidy(axis)
        axis.ticklabel_format(useOffset=False)
        axis.locator_params(axis="x", nbins=4)
        if not place:
            axis.set_ylabel("test image AUROC, % (only reported)", fontsize=9)
            axis.legend(fontsize=8, frameon=False)
    return figure
