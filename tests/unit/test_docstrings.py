"""Examples in docstrings give what they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("reconpatch", "tasks", "flows", "studies")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_gives_what_it_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert "doctest: +SKIP" not in Path(str(module.__file__)).read_text(encoding="utf-8")
    failed, tried = doctest.testmod(module)
    assert failed == 0, capsys.readouterr().out
    assert tried > 0, "the examples are in no docstring of a public name"


def test_the_functions_that_a_reader_looks_up_have_examples() -> None:
    """The score, the map, the bank and what is measured; more may have one."""
    assert {
        "reconpatch.detector",
        "reconpatch.evaluation.metrics.image_metrics",
        "reconpatch.calibration.threshold",
        "reconpatch.coreset.k_center",
        "reconpatch.model.anomaly_map",
        "reconpatch.model.patch_scores",
    } <= set(MODULES)
