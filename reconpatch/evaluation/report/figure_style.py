"""Figures without pyplot: nothing global, so threads can draw at once, and equal data give equal bytes."""

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NOMINAL, DEFECTIVE, MUTED = "#2a78b5", "#d1495b", "#5f6b76"
REVIEW = "#fbe3b4"
_DPI = 110


def new_figure(width: float, height: float, **keywords: Any) -> Figure:
    """A white figure of ``width`` x ``height`` inches on the Agg canvas."""
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", **keywords)
    FigureCanvasAgg(figure)
    return figure


def headline(figure: Figure, text: str, **keywords: Any) -> None:
    """Write above the whole figure, from the left; names in it are the user's, a dollar begins no formula."""
    style = {"fontsize": 11, "fontweight": "bold", "x": 0.01, "ha": "left", "parse_math": False}
    figure.suptitle(text, **style | keywords)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG, without date or program name, so that equal figures are equal bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def tidy(axis: Any) -> None:
    """Drop the frame's upper and right side, and draw a light grid behind the data."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(visible=True, color="#e3e7ea", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=8)
