"""The picture of patch embeddings: a column a moment of training, coloured by position and by defect."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reconpatch.evaluation.patch_embedding import Patches, Stage
from reconpatch.evaluation.report.figure_style import DEFECTIVE, headline, new_figure

_CORNERS = ("#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")  # top left, top right, bottom left, bottom right
_NOMINAL = "#b9c3cb"
_SIDE = 24


def embedding_figure(patches: Patches, stages: Sequence[Stage], title: str) -> Figure:
    """Two rows, a column a stage: coloured by where a patch lies in its image, and by nominal or defect.

    Args:
        patches: those shown.
        stages: their places, in order.
        title: what they are of.
    """
    across = len(stages)
    figure = new_figure(3.2 * across + 1.9, 7.0)
    headline(
        figure,
        f"{title}: {len(patches.features)} patches of test images in f's space, laid out by UMAP",
        x=0.02,
    )
    grid = figure.add_gridspec(
        2, across + 1, width_ratios=[3.2] * across + [1.5], left=0.05, right=0.95, top=0.9, bottom=0.06,
        wspace=0.08, hspace=0.14,
    )  # fmt: skip
    for column, stage in enumerate(stages):
        for row in (0, 1):
            axis = figure.add_subplot(grid[row, column])
            axis.set(xticks=[], yticks=[])
            if row:
                axis.set_xlabel("UMAP 1 (no unit)", fontsize=8)
            if not column:
                axis.set_ylabel("UMAP 2 (no unit)", fontsize=8)
            axis.spines[:].set_color("#c9d0d6")
            if not row:
                axis.set_title(_moment(column, stage.step, across), fontsize=9, loc="left")
            _scatter(axis, stage.points, patches, by_position=row == 0)
    _position_legend(figure.add_subplot(grid[0, across]))
    _defect_legend(figure.add_subplot(grid[1, across]), patches)
    return figure


def position_colours(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 2) rows and columns in [0, 1] to (n, 3) colours in [0, 1], blended between four corners."""
    corners = np.array([[int(corner[i : i + 2], 16) / 255 for i in (1, 3, 5)] for corner in _CORNERS])
    row, column = positions[:, :1], positions[:, 1:]
    upper = corners[0] * (1 - column) + corners[1] * column
    lower = corners[2] * (1 - column) + corners[3] * column
    blended: NDArray[np.float64] = upper * (1 - row) + lower * row
    return blended


def _moment(column: int, step: int, across: int) -> str:
    name = (
        "before training" if column == 0 else "after training" if column == across - 1 else "during training"
    )
    return f"{name}, step {step}"


def _scatter(axis: Any, points: NDArray[np.float32], patches: Patches, *, by_position: bool) -> None:
    if by_position:
        axis.scatter(*points.T, s=3, c=position_colours(patches.positions), linewidths=0)
        return
    good = ~patches.defective
    axis.scatter(*points[good].T, s=3, color=_NOMINAL, linewidths=0)
    axis.scatter(*points[~good].T, s=5, color=DEFECTIVE, linewidths=0)


def _position_legend(axis: Any) -> None:
    lattice = np.stack(np.meshgrid(*[np.linspace(0, 1, _SIDE)] * 2, indexing="ij"), axis=-1)
    axis.imshow(position_colours(lattice.reshape(-1, 2)).reshape(_SIDE, _SIDE, 3))
    axis.set(xticks=[0, _SIDE - 1], yticks=[0, _SIDE - 1])
    axis.set_xticklabels(["left", "right"], fontsize=7)
    axis.set_yticklabels(["top", "bottom"], fontsize=7)
    axis.yaxis.tick_right()  # on the left its labels would lie over the last panel
    axis.set_title("colour: the patch's\nplace in the image", fontsize=8, loc="left")


def _defect_legend(axis: Any, patches: Patches) -> None:
    axis.axis("off")
    found = int(patches.defective.sum())
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, markersize=5, label=label)
        for colour, label in (
            (_NOMINAL, f"nominal ({len(patches.defective) - found})"),
            (DEFECTIVE, f"defect ({found})"),
        )
    ]
    axis.legend(handles=handles, fontsize=8, frameon=False, loc="upper left", borderaxespad=0)
