"""Tables and plots of an ablation from its measured cells."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reconpatch.evaluation.report.figure_style import DEFECTIVE, MUTED, headline, new_figure, png_bytes, tidy
from reconpatch.storage.atomic_files import atomic_file
from reconpatch.text.csv_files import write_frame
from studies.ablation_grid import METHODS, PATCHCORE, RECONPATCH, TITLES, Cell

LABELS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro": "AUPRO"}
MEAN = "mean"
_KEYS = ["study", "setting", "method"]
_COLOURS = {PATCHCORE: MUTED, RECONPATCH: DEFECTIVE}
_MARKERS = {PATCHCORE: "s", RECONPATCH: "o"}


def write_tables(
    results: pd.DataFrame, cells: Sequence[Cell], folder: Path
) -> dict[tuple[str, str], pd.DataFrame]:
    """Write every study's table and plot, and the figures behind them.

    Args:
        results: as for `summarise`.
        cells: those of the studies.
        folder: ``cells.csv``, ``summary.csv``, and of each study and category a CSV, a Markdown table and a
            plot are written, each atomically.

    Returns:
        The text tables by (study, category).
    """
    summary = summarise(results)
    write_frame(folder / "cells.csv", results)
    write_frame(folder / "summary.csv", summary)
    tables = {}
    for study in dict.fromkeys(summary["study"]):
        for category in dict.fromkeys(summary["category"]):
            tables[study, category] = table = study_table(summary, study, category, cells)
            write_frame(folder / f"{study}-{category}.csv", table)
            with atomic_file(folder / f"{study}-{category}.md") as temporary:
                temporary.write_text(markdown(table), encoding="utf-8")
            with atomic_file(folder / f"{study}-{category}.png") as temporary:
                temporary.write_bytes(png_bytes(study_figure(summary, study, category, cells)))
    return tables


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of every cell over the seeds.

    Args:
        results: a row a measured cell: study, setting, method, category, seed, and the three metrics in
            [0, 1], NaN where not available.

    Returns:
        A row a study, setting, method and category, and of several categories their ``mean``, in the order
        given: n (seeds), and of each metric the mean and ``<metric>_spread``, the standard deviation over
        seeds, in percent.
    """
    frames = [results]
    if results["category"].nunique() > 1:
        whole = results.groupby([*_KEYS, "seed"], sort=False)[list(LABELS)].mean().reset_index()
        frames.append(whole.assign(category=MEAN))
    stacked = pd.concat(frames, ignore_index=True)
    stacked[list(LABELS)] = 100 * stacked[list(LABELS)].astype("float64")
    grouped = stacked.groupby([*_KEYS, "category"], sort=False)[list(LABELS)]
    summary = grouped.mean().join(grouped.std().add_suffix("_spread"))
    return summary.assign(n=grouped.size()).reset_index()


def study_table(summary: pd.DataFrame, study: str, category: str, cells: Sequence[Cell]) -> pd.DataFrame:
    """One study of one category as the paper prints it, in percent: a row a setting.

    Args:
        summary: of `summarise`.
        study: name of the study.
        category: one of the summary's, or ``mean``.
        cells: the study's, for the paper's figures.

    Returns:
        Text cells: the setting, PatchCore and ReConPatch for each metric (mean, ± spread over seeds where
        there are several), and the paper's figures where it has any.
    """
    chosen = summary[(summary["study"] == study) & (summary["category"] == category)]
    own = [cell for cell in cells if cell.study == study]
    rows = []
    for setting in dict.fromkeys(cell.setting for cell in own):
        row = {TITLES[study]: setting}
        for metric, label in LABELS.items():
            for method in METHODS:
                found = chosen[(chosen["setting"] == setting) & (chosen["method"] == method)]
                row[f"{method} {label}"] = _text(found, metric)
        for cell in (cell for cell in own if cell.setting == setting):
            for value, label in zip(cell.paper, ("image", "pixel"), strict=True):
                if value is not None:
                    row[f"paper {cell.method} {label}"] = f"{value:.2f}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def markdown(table: pd.DataFrame) -> str:
    """A table of text as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def study_figure(summary: pd.DataFrame, study: str, category: str, cells: Sequence[Cell]) -> Figure:
    """Image and pixel AUROC over the settings of a study, PatchCore beside ReConPatch, in percent.

    Bars are the standard deviation over seeds, where there are several. Arguments are those of `study_table`.
    """
    chosen = summary[(summary["study"] == study) & (summary["category"] == category)]
    settings = list(dict.fromkeys(cell.setting for cell in cells if cell.study == study))
    figure = new_figure(9.6, 3.9, layout="constrained")
    seeds = int(chosen["n"].max()) if len(chosen) else 0
    headline(figure, f"{TITLES[study]}: {category}, {seeds} seed{'s' * (seeds != 1)}")
    for axis, metric in zip(figure.subplots(1, 3), LABELS, strict=True):
        for offset, method in zip((-0.06, 0.06), METHODS, strict=True):
            _draw(axis, chosen[chosen["method"] == method], metric, settings, offset, method)
        axis.set_xticks(range(len(settings)), [setting.replace(", ", "\n") for setting in settings])
        axis.set_xlim(-0.5, len(settings) - 0.5)
        axis.set_title(f"{LABELS[metric]}, %", fontsize=9, loc="left")
        axis.set_xlabel(TITLES[study], fontsize=9)
        tidy(axis)
        axis.ticklabel_format(axis="y", useOffset=False)
    figure.axes[0].legend(fontsize=8, frameon=False)
    return figure


def _draw(
    axis: Any, rows: pd.DataFrame, metric: str, settings: list[str], offset: float, method: str
) -> None:
    known = rows[rows[metric].notna()].set_index("setting")
    places = np.array([settings.index(setting) for setting in known.index]) + offset
    axis.errorbar(
        places, known[metric], yerr=known[f"{metric}_spread"].fillna(0), color=_COLOURS[method],
        marker=_MARKERS[method], markersize=5, capsize=3, linewidth=1.4, label=method,
    )  # fmt: skip


def _text(found: pd.DataFrame, metric: str) -> str:
    if not len(found) or np.isnan(found[metric].iloc[0]):
        return "not available" if len(found) else "not run"
    spread = found[f"{metric}_spread"].iloc[0]
    return f"{found[metric].iloc[0]:.2f}" + ("" if np.isnan(spread) else f" ± {spread:.2f}")
