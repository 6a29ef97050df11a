"""From measured cells to the tables and plots that are logged."""

import numpy as np
import pandas as pd
import pytest

from studies.ablation_grid import ablation_cells
from studies.ablation_tables import markdown, study_table, summarise, write_tables

CELLS = ablation_cells(["coreset"])


def results(**values):
    """A row a cell, category and seed; every figure is 0.9 unless ``values`` names the cell."""
    rows = []
    for category, shift in (("nut", 0.0), ("bolt", -0.1)):
        for seed in (0, 1):
            for cell in CELLS:
                figure = values.get(f"{cell.setting} {cell.method}", 0.9) + shift + 0.01 * seed
                what = {"study": cell.study, "setting": cell.setting, "method": cell.method}
                what |= {"category": category, "seed": seed}
                rows.append(what | {"image_auroc": figure, "pixel_auroc": figure, "aupro": None})
    return pd.DataFrame(rows)


def test_means_and_spreads_over_seeds_in_percent():
    summary = summarise(results(**{"1 % ReConPatch": 0.95}))
    row = summary[(summary["setting"] == "1 %") & (summary["method"] == "ReConPatch")].set_index("category")
    assert row.loc["nut", "image_auroc"] == pytest.approx(95.5)
    assert row.loc["nut", "image_auroc_spread"] == pytest.approx(100 * np.std([0, 0.01], ddof=1))
    assert row.loc["mean", "image_auroc"] == pytest.approx(90.5), "over the categories, then over the seeds"
    assert set(summary["n"]) == {2}
    assert summarise(results().query("category == 'nut'"))["category"].unique().tolist() == ["nut"]


def test_a_table_has_a_row_a_setting_and_the_papers_figures():
    table = study_table(summarise(results(**{"10 % PatchCore": 0.8})), "coreset", "nut", CELLS)
    title = table.columns[0]
    assert table[title].tolist() == ["25 %", "10 %", "1 %"]
    row = table.set_index(title).loc["10 %"]
    assert row["PatchCore image AUROC"] == "80.50 ± 0.71"
    assert row["ReConPatch image AUROC"] == "90.50 ± 0.71"
    assert row["ReConPatch AUPRO"] == "not available"
    assert row["paper ReConPatch image"] == "99.27"
    assert markdown(table).splitlines()[1].count("---") == len(table.columns)


def test_a_cell_that_failed_is_not_run_and_the_rest_is_written(tmp_path):
    rows = results().query("not (setting == '1 %' and method == 'PatchCore') and seed == 0")
    tables = write_tables(rows, CELLS, tmp_path)
    row = tables["coreset", "nut"].iloc[2]
    assert row["PatchCore image AUROC"] == "not run"
    assert row["ReConPatch image AUROC"] == "90.00"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"cells.csv", "summary.csv"} | {
        f"coreset-{category}.{kind}" for category in ("nut", "bolt", "mean") for kind in ("csv", "md", "png")
    }
    assert (tmp_path / "coreset-nut.png").read_bytes().startswith(b"\x89PNG")
