import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from manifest_rows import defect, manifest, row

from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError, ReConPatchError
from reconpatch.integrations import expectations
from reconpatch.integrations.expectations import CheckReport, check_manifest
from reconpatch.settings import DataSettings, ValidateSettings

_SETTINGS = ValidateSettings(min_train_images=3)
_TRAIN = [row(f"train/{i}") for i in range(4)]


def _check(rows: list[dict[str, Any]]) -> CheckReport:
    return check_manifest(manifest(rows), _SETTINGS)


def _found(report: CheckReport) -> list[tuple[str, str, str | None]]:
    return [(problem.expectation, problem.severity, problem.path) for problem in report.problems]


def test_a_sound_category_has_no_problem() -> None:
    report = _check([*_TRAIN, row("test/ok", split="test"), defect("test/bad")])
    assert report.success
    assert report.problems == ()
    assert {"readable", "mask_fits", "defect_has_mask", "group_in_one_split"} <= set(report.expectations)


def test_nominal_images_alone_pass() -> None:
    assert _found(_check(_TRAIN)) == []


def test_defects_pass_when_none_of_them_has_a_mask() -> None:
    assert _found(_check([*_TRAIN, defect("test/a", **_NO_MASK), defect("test/b", **_NO_MASK)])) == []


_NO_MASK = dict.fromkeys(("mask_path", "mask_width", "mask_height", "mask_area"))
_SINGLE_FAULTS = [
    (row("cut", problem="is cut short"), "readable", "critical"),
    (row("labelled", label=1, defect_type="hole"), "train_is_nominal", "critical"),
    (row("leaked", split="test", sha256="sha of train/1"), "not_in_two_splits", "critical"),
    (row("kin", split="test", group="train/1"), "group_in_one_split", "critical"),
    (defect("narrow", mask_width=32), "mask_fits", "critical"),
    (defect("tiny", mask_width=32, mask_height=32), "mask_fits", "critical"),
    (defect("bare", **_NO_MASK), "defect_has_mask", "critical"),
    (defect("contradictory", label=0, defect_type="good"), "nominal_has_no_defect", "critical"),
    (defect("empty", mask_area=0.0), "mask_not_empty", "warning"),
    (row("twin", sha256="sha of train/1"), "unique_in_split", "warning"),
    (row("wide", width=80), "one_size", "warning"),
    (row("grey", mode="L"), "one_mode", "warning"),
]


def test_each_fault_is_reported_once_and_by_name_all_in_one_pass() -> None:
    report = _check([*_TRAIN, defect("test/bad"), *(faulty for faulty, _, _ in _SINGLE_FAULTS)])
    assert sorted(_found(report)) == sorted(
        (name, level, faulty["path"]) for faulty, name, level in _SINGLE_FAULTS
    )
    assert [problem.severity for problem in report.problems] == ["critical"] * 8 + ["warning"] * 4


@pytest.mark.parametrize(("expectation", "success"), [("mask_fits", False), ("mask_not_empty", True)])
def test_only_critical_problems_fail(expectation: str, success: bool) -> None:
    faulty = next(given for given, name, _ in _SINGLE_FAULTS if name == expectation)
    assert _check([*_TRAIN, faulty]).success is success


def test_small_images_are_a_warning() -> None:
    small = [row(f"train/{i}", width=16, height=64) for i in range(3)]
    assert _found(_check(small)) == [("large_enough", "warning", f"train/{i}") for i in range(3)]


def test_too_few_training_images_and_unreadable_ones_do_not_count() -> None:
    report = _check([*_TRAIN[:2], row("train/x", problem="is cut short")])
    assert ("enough_train_images", "critical", None) in _found(report)
    assert "2 readable training images, at least 3" in report.problems[0].reason


def test_an_empty_table_is_too_few_images() -> None:
    assert _found(_check([])) == [("enough_train_images", "critical", None)]


def test_a_mixture_of_sizes_is_one_line_that_counts_them() -> None:
    report = _check([row(f"train/{i}", width=64 + i) for i in range(40)])
    assert _found(report) == [("one_size", "warning", None)]
    assert "40 different sizes" in report.problems[0].reason


def test_strays_of_the_manifest_are_warnings() -> None:
    table = manifest(_TRAIN)
    table.attrs["strays"] = [["train/notes.txt", "is no image"]]
    assert _found(check_manifest(table, _SETTINGS)) == [("belongs_to_category", "warning", "train/notes.txt")]


def test_reasons_hold_what_a_person_needs() -> None:
    report = _check([*_TRAIN, defect("test/a", mask_width=32)])
    assert str(report.problems[0]) == (
        "critical: test/a: the mask mask of test/a is 32x64 pixels, the image 64x64 [mask_fits]"
    )


def test_equal_reports_are_equal_bytes_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = [*_TRAIN, defect("test/a", mask_width=32), defect("test/b", mask_area=0.0)]
    paths = [
        _check(rows).write(tmp_path / "one"),
        check_manifest(manifest(rows[::-1]), _SETTINGS).write(tmp_path / "two"),
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    written = json.loads(paths[0].read_text())
    assert (written["success"], written["critical"], written["warning"], written["images"]) == (
        False,
        1,
        1,
        6,
    )


def test_threads_check_several_categories_at_once() -> None:
    tables = [manifest([*_TRAIN, *(defect(f"test/{i}", mask_width=32) for i in range(n))]) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda table: check_manifest(table, _SETTINGS), tables))
    assert [len(report.problems) for report in reports] == list(range(4))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="lacks the columns sha256"):
        check_manifest(manifest(_TRAIN).drop(columns="sha256"), _SETTINGS)


def test_an_expectation_that_raises_inside_its_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    derive = expectations.derive_facts

    def lose_a_column(table: pd.DataFrame) -> pd.DataFrame:
        return derive(table).drop(columns="side")

    monkeypatch.setattr(expectations, "derive_facts", lose_a_column)
    with pytest.raises(DataError, match="large_enough could not be evaluated"):
        check_manifest(manifest(_TRAIN), _SETTINGS)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("reconpatch.integrations.extras.importlib.import_module", refuse)
    with pytest.raises(ReConPatchError, match=r"pip install 'reconpatch\[pipeline\]'"):
        check_manifest(manifest(_TRAIN), _SETTINGS)


def test_importing_the_checks_imports_none_of_the_pipelines_tools() -> None:
    code = (
        "import sys, reconpatch.integrations.expectations, reconpatch.integrations.mlflow_uri\n"
        "from reconpatch import ReConPatch\n"
        "print(sorted({'prefect', 'mlflow', 'dvc', 'great_expectations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.real_images
def test_magnetic_tile_is_usable_in_spite_of_its_four_empty_masks(real_images: Path) -> None:
    table = build_manifest(real_images / "magnetic_tile" / "magnetic_tile", DataSettings())
    report = check_manifest(table, ValidateSettings())
    assert report.success
    empty = [problem.path for problem in report.problems if problem.expectation == "mask_not_empty"]
    assert len(empty) == 4
