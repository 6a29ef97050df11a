import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from manifest_rows import defect, manifest, row
from planted_faults import write_sound

from reconpatch.data.decoding import decoding_pool
from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError, ReConPatchError
from reconpatch.integrations import data_checks
from reconpatch.integrations.data_checks import CheckReport, check_dataset, check_manifest
from reconpatch.settings import DataSettings, ValidateSettings
from tests.hostile_images import ascii_ppm, pages_tiff

_SETTINGS = ValidateSettings(min_train_images=3)
_TRAIN = [row(f"train/{i}", perceptual_hash="1" * 64 if i == 0 else None) for i in range(8)]


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
    bare = [defect("test/a", **_NO_MASK), defect("test/b", **_NO_MASK)]
    assert _found(_check([*_TRAIN, row("test/ok", split="test"), *bare])) == []


_NO_MASK = dict.fromkeys(("mask_path", "mask_width", "mask_height", "mask_area", "mask_grey", "mask_sha256"))
_SINGLE_FAULTS = [
    (row("cut", problem="is cut short"), "readable", "critical"),
    (row("labelled", label=1, defect_type="hole"), "train_is_nominal", "critical"),
    (row("leaked", split="test", sha256="sha of train/1"), "not_in_two_splits", "critical"),
    (row("kin", split="test", group="train/1"), "group_in_one_split", "critical"),
    (defect("narrow", mask_width=32), "mask_fits", "critical"),
    (defect("tiny", mask_width=32, mask_height=32), "mask_fits", "critical"),
    (defect("bare", **_NO_MASK), "defect_has_mask", "critical"),
    (defect("contradictory", label=0, defect_type="good"), "nominal_has_no_defect", "critical"),
    (row("doubted", verdict="bad"), "train_is_not_judged_bad", "critical"),
    (defect("acquitted", verdict="good"), "label_agrees_with_verdict", "warning"),
    (defect("confirmed", verdict="bad", mask_area=0.0, split="test"), "mask_not_empty", "warning"),
    (defect("empty", mask_area=0.0), "mask_not_empty", "warning"),
    (row("both", split="test", sha256="sha of test/bad"), "one_label", "critical"),
    (defect("marked", label=0, defect_type="good", mask_area=0.0), "nominal_has_no_mask", "warning"),
    (defect("soft", mask_grey=0.5), "mask_is_binary", "warning"),
    (defect("inverted", mask_area=0.9), "mask_not_inverted", "warning"),
    (defect("reused", mask_sha256="sha of mask of test/bad"), "mask_of_its_own", "warning"),
    (row("near", split="test", perceptual_hash="1" * 64), "no_near_copy", "warning"),
    (row("black", contrast=0.0), "not_blank", "warning"),
    (row("glaring", brightness=250.0), "looks_usual", "warning"),
    (row("lying", orientation=6, width=80), "one_orientation", "warning"),
    (row("deep", bit_depth=16), "one_mode", "warning"),
    (row("twin", sha256="sha of train/1"), "unique_in_split", "warning"),
    (row("wide", width=80), "one_size", "warning"),
    (row("grey", mode="L"), "one_mode", "warning"),
]


def test_each_fault_is_reported_once_and_by_name_all_in_one_pass() -> None:
    report = _check([*_TRAIN, defect("test/bad"), *(faulty for faulty, _, _ in _SINGLE_FAULTS)])
    assert sorted(_found(report)) == sorted(
        (name, level, faulty["path"]) for faulty, name, level in _SINGLE_FAULTS
    )
    assert [problem.severity for problem in report.problems] == ["critical"] * 10 + ["warning"] * 15


@pytest.mark.parametrize(("expectation", "success"), [("mask_fits", False), ("mask_not_empty", True)])
def test_only_critical_problems_fail(expectation: str, success: bool) -> None:
    faulty = next(given for given, name, _ in _SINGLE_FAULTS if name == expectation)
    assert _check([*_TRAIN, faulty]).success is success


def test_small_images_are_a_warning() -> None:
    small = [row(f"train/{i}", width=16, height=64) for i in range(3)]
    assert _found(_check(small)) == [("large_enough", "warning", f"train/{i}") for i in range(3)]


def test_too_few_training_images_and_unreadable_ones_do_not_count() -> None:
    report = _check([*_TRAIN[1:3], row("train/x", problem="is cut short")])
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
    ok = row("test/ok", split="test")
    rows = [*_TRAIN, ok, defect("test/a", mask_width=32), defect("test/b", mask_area=0.0)]
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
        11,
    )


def test_threads_check_several_categories_at_once() -> None:
    ok = row("test/ok", split="test")
    tables = [
        manifest([*_TRAIN, ok, *(defect(f"test/{i}", mask_width=32) for i in range(n))]) for n in range(4)
    ]
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda table: check_manifest(table, _SETTINGS), tables))
    assert [len(report.problems) for report in reports] == list(range(4))


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="lacks the columns sha256"):
        check_manifest(manifest(_TRAIN).drop(columns="sha256"), _SETTINGS)


def test_an_expectation_that_raises_inside_its_result_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    derive = data_checks.derive_facts

    def lose_a_column(table: pd.DataFrame, settings: ValidateSettings) -> pd.DataFrame:
        return derive(table, settings).drop(columns="side")

    monkeypatch.setattr(data_checks, "derive_facts", lose_a_column)
    with pytest.raises(DataError, match="large_enough could not be evaluated"):
        check_manifest(manifest(_TRAIN), _SETTINGS)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("reconpatch.integrations.optional_packages.importlib.import_module", refuse)
    with pytest.raises(ReConPatchError, match=r"pip install 'reconpatch\[pipeline\]'"):
        check_manifest(manifest(_TRAIN), _SETTINGS)


@pytest.mark.slow
def test_importing_the_checks_imports_none_of_the_pipelines_tools() -> None:
    code = (
        "import sys, reconpatch.integrations.data_checks, reconpatch.integrations.mlflow_uri\n"
        "from reconpatch import ReConPatch\n"
        "print(sorted({'prefect', 'mlflow', 'dvc', 'great_expectations'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_data_are_checked_where_neither_prefect_nor_mlflow_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("prefect", "mlflow", "dvc"):
        monkeypatch.setitem(sys.modules, name, None)
    root, docs = tmp_path / "set", tmp_path / "docs"
    write_sound(root)
    (report,) = check_dataset(root, DataSettings(), ValidateSettings(), docs).values()
    assert report.problems == ()
    assert (docs / "nut/index.html").is_file()


def test_a_category_may_be_declared_to_vary() -> None:
    varied = [*_TRAIN, row("wide", width=80), row("grey", mode="L")]
    settings = ValidateSettings(min_train_images=3, same_size=False, same_mode=False)
    assert check_manifest(manifest(varied), settings).problems == ()


def test_defects_without_a_nominal_test_image_are_a_warning() -> None:
    assert _found(_check([*_TRAIN, defect("test/bad")])) == [("test_has_nominal", "warning", None)]


def test_what_a_whole_category_is_like_is_one_line_with_an_example() -> None:
    report = _check(
        [*_TRAIN, row("ok", split="test"), *(defect(f"test/{i:02}", mask_grey=0.5) for i in range(11))]
    )
    assert _found(report) == [("mask_is_binary", "warning", None)]
    assert report.problems[0].reason.startswith(
        "11 of 20 images, such as test/00 its mask mask of test/00 is"
    )


def test_data_docs_are_written_as_html_that_names_the_bad_image(tmp_path: Path) -> None:
    check_manifest(manifest([*_TRAIN, row("train/wide", width=80)]), _SETTINGS, tmp_path / "docs")
    assert (tmp_path / "docs" / "index.html").is_file()
    (page,) = (tmp_path / "docs" / "validations").rglob("*.html")
    assert "train/wide" in page.read_text()


@pytest.mark.real_images
def test_magnetic_tile_is_usable_in_spite_of_its_four_empty_masks(real_images: Path) -> None:
    table = build_manifest(real_images / "magnetic_tile" / "magnetic_tile", DataSettings())
    report = check_manifest(table, ValidateSettings())
    assert report.success
    reported = {problem.expectation: problem for problem in report.problems}
    assert "different sizes" in reported["one_size"].reason
    assert reported["mask_is_binary"].reason.startswith("388 of 1344 images")
    empty = [problem.path for problem in report.problems if problem.expectation == "mask_not_empty"]
    assert len(empty) == 4


@pytest.mark.real_images
def test_bottle_passes_without_a_critical(real_images: Path) -> None:
    report = check_manifest(
        build_manifest(real_images / "mvtec" / "bottle", DataSettings()), ValidateSettings()
    )
    assert report.success
    assert report.images == 292
    assert len(report.problems) < 10


@pytest.mark.slow
def test_an_image_that_takes_too_long_is_a_problem_as_a_damaged_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding_pool, "BUSY_FACTOR", 10_000)  # the machine may be busy
    root = tmp_path / "nut"
    write_sound(tmp_path)
    (root / "train" / "good" / "slow.ppm").write_bytes(ascii_ppm(side=1_500))
    (root / "train" / "good" / "pages.tif").write_bytes(pages_tiff(5_000))
    (report,) = check_dataset(root, DataSettings(decode_seconds=0.5), _SETTINGS).values()
    unreadable = {p.path: p.reason for p in report.problems if p.expectation == "readable"}
    assert "took longer than 0.5 s to decode" in unreadable["train/good/slow.ppm"]
    assert "several pages" in unreadable["train/good/pages.tif"]
    assert len(unreadable) == 2


def test_no_name_is_markup_in_the_data_docs_and_all_are_told_as_they_are(tmp_path: Path) -> None:
    names = ["train/<img src=x onerror=alert(1)>.png", "train/a&lt;b'\"$path {size}.png"]
    broken = [row(name, problem="is cut <b>short</b>") for name in names]
    twin = row("test/<script>.png", split="test", sha256="sha of train/1", defect_type="<i>x")
    report = check_manifest(manifest([*_TRAIN, *broken, twin]), _SETTINGS, tmp_path / "docs")
    assert [problem.path for problem in report.problems] == ["test/<script>.png", *sorted(names)]
    assert report.problems[1].reason == "is cut <b>short</b>"
    (page,) = (tmp_path / "docs" / "validations").rglob("*.html")
    shown = page.read_text(encoding="utf-8")
    assert "train/&lt;img src=x onerror=alert(1)&gt;.png" in shown
    assert "is cut &lt;b&gt;short&lt;/b&gt;" in shown
    for page in (tmp_path / "docs").rglob("*.html"):
        markup = page.read_text(encoding="utf-8")
        assert not [tag for tag in ("<img src=x", "<script>.png", "<b>short", "<i>x") if tag in markup]
