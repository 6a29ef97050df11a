"""The cells of the ablations say what the paper's tables say, and every one is a valid set of parameters."""

import pytest

from reconpatch.errors import SettingsError
from reconpatch.settings import Settings
from studies.ablation_cell import cell_settings
from studies.ablation_grid import METHODS, STUDIES, ablation_cells

BASE = Settings()


def test_every_row_has_both_methods_and_valid_parameters():
    cells = ablation_cells()
    rows = {(cell.study, cell.setting) for cell in cells}
    assert {(cell.study, cell.setting, cell.method) for cell in cells} == {
        (*row, method) for row in rows for method in METHODS
    }
    for cell in cells:
        settings = cell_settings(cell, BASE, seed=3)
        assert settings.seed == 3
        assert settings.evaluate.pictures == 0


def test_the_default_detector_stands_in_every_table():
    for study in STUDIES:
        found = [cell_settings(cell, BASE, 0) for cell in ablation_cells([study]) if not cell.augmented]
        assert BASE.model_copy(update={"evaluate": found[0].evaluate}) in found, study


def test_patchcore_of_a_width_is_an_untrained_f_of_that_width():
    cells = [cell for cell in ablation_cells(["dimension"]) if cell.method == "PatchCore"]
    dims = [cell_settings(cell, BASE, 0).modulation for cell in cells]
    assert [one.dim for one in dims] == [1024, 512, 256, 128, 64]
    assert {(one.enabled, one.steps, one.init) for one in dims} == {(True, 0, "isometry")}


def test_the_papers_figures_stand_where_it_has_them():
    known = {(cell.study, cell.setting, cell.method): cell.paper for cell in ablation_cells()}
    assert known["coreset", "1 %", "ReConPatch"] == (99.49, 98.07)
    assert known["dimension", "64", "PatchCore"] == (97.75, None)
    assert known["patch", "levels 1+2+3, s 5", "ReConPatch"] == (98.70, 98.18)
    assert known["augmentation", "of the nominal images", "PatchCore"] == (95.48, None)


def test_an_unknown_study_is_named():
    with pytest.raises(SettingsError, match="unknown ablation `colour`; there are: coreset, dimension"):
        ablation_cells(["coreset", "colour"])
