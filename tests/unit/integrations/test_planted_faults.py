"""Each planted fault is found with its file, once; the sound twin of the set has none."""

from collections import Counter
from pathlib import Path

from planted_faults import Fault, plant, plant_others, write_sound

from reconpatch.integrations.check_report import CheckReport
from reconpatch.integrations.data_checks import check_dataset
from reconpatch.settings import DataSettings, ValidateSettings


def _check(root: Path) -> dict[str, CheckReport]:
    return check_dataset(root, DataSettings(), ValidateSettings())


def _found(reports: dict[str, CheckReport]) -> Counter[Fault]:
    return Counter(
        (name, problem.path, problem.expectation)
        for name, report in reports.items()
        for problem in report.problems
    )


def test_the_sound_set_has_no_problem(tmp_path: Path) -> None:
    write_sound(tmp_path)
    assert not _found(_check(tmp_path))


def test_25_planted_faults_are_all_found_and_none_twice(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_sound(root)
    planted = plant(root)
    assert len(planted) == 25
    reports = _check(root)
    assert _found(reports) == Counter(planted)
    assert not reports["nut"].success
    assert not reports["bolt"].success
    assert all(problem.reason for report in reports.values() for problem in report.problems)


def test_faults_that_are_on_no_list(tmp_path: Path) -> None:
    write_sound(tmp_path)
    planted = plant_others(tmp_path)
    assert _found(_check(tmp_path)) == Counter(planted)


def test_a_broken_groups_csv_hides_no_other_fault(tmp_path: Path) -> None:
    write_sound(tmp_path)
    groups = tmp_path / "nut/groups.csv"
    lines = groups.read_text().splitlines()
    groups.write_text("\n".join([lines[0], "no comma", *lines[1:]]))
    image = tmp_path / "nut/train/good/000.png"
    image.write_bytes(image.read_bytes()[:2000])
    reports = _check(tmp_path)
    assert _found(reports) == Counter(
        [("nut", "groups.csv", "groups_are_usable"), ("nut", "train/good/000.png", "readable")]
    )
    assert not reports["nut"].success
    image.unlink()
    groups.write_bytes(b"\xff\xfe")
    assert ("nut", "groups.csv", "groups_are_usable") in _found(_check(tmp_path))
