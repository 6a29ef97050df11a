"""Rank correlation of a judgement with the test labels, and what choosing by it costs."""

import numpy as np
import pandas as pd
import pytest

from reconpatch.evaluation.report.figure_style import png_bytes
from studies.ranking import rank, ranking_figure


def trials(**columns):
    count = len(columns["test_image_auroc"])
    values = {"synthetic_image_auroc": np.ones(count), "synthetic_pixel_auroc": np.ones(count),
              "synthetic_d_prime": np.ones(count)}  # fmt: skip
    return pd.DataFrame(values | columns)


def test_agreement_and_regret():
    table = trials(
        test_image_auroc=[0.7, 0.8, 0.9, 0.6],
        synthetic_image_auroc=[2.0, 3.0, 4.0, 1.0],
        synthetic_pixel_auroc=[3.0, 2.0, 1.0, 4.0],
    )
    found = rank(table)
    assert found["synthetic_image_auroc"].rho == pytest.approx(1)
    assert found["synthetic_image_auroc"].regret == 0
    assert found["synthetic_pixel_auroc"].rho == pytest.approx(-1)
    assert found["synthetic_pixel_auroc"].regret == pytest.approx(0.3)
    assert found["synthetic_d_prime"].rho is None, "all equal: no rank"


def test_too_few_trials_have_no_correlation():
    table = trials(test_image_auroc=[0.7, 0.8, 0.9], synthetic_image_auroc=[1.0, 2.0, 3.0])
    assert rank(table)["synthetic_image_auroc"].rho is None


def test_the_figure_marks_the_start_and_patchcore():
    table = trials(test_image_auroc=[0.7, 0.8, 0.9, 0.6], synthetic_image_auroc=[2.0, 3.0, 4.0, 1.0])
    patchcore = dict.fromkeys(table.columns, 0.5)
    figure = ranking_figure(table, patchcore, rank(table), r"$\nut$")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["trial", "parameters given", "PatchCore"]
    assert [axis.get_title("left") for axis in figure.axes] == [
        "Spearman +1.00",
        "not defined",
        "not defined",
    ]
    assert png_bytes(figure).startswith(b"\x89PNG")
