"""Which registered versions housekeeping takes for those of its data set."""

from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import pytest

from reconpatch.settings import parse_settings
from tasks.operations import housekeeping

_YEAR = 365 * 24 * 3600.0


class _Page(list):
    token = None


class _Registry:
    """As much of MLflow's client as a look for old versions asks; every model has two, none with an alias."""

    def __init__(self, tags: dict[str, dict[str, str]]) -> None:
        self._versions = [
            SimpleNamespace(name=name, version=number, tags=own, creation_timestamp=0)
            for name, own in tags.items()
            for number in ("1", "2")
        ]

    def search_model_versions(self, asked: str, max_results: int, page_token: str | None = None) -> _Page:
        assert max_results
        assert page_token is None
        pattern = asked.removeprefix("name LIKE '").removesuffix("'").replace("%", "*").replace("_", "?")
        return _Page(one for one in self._versions if fnmatchcase(one.name, pattern))

    def get_registered_model(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, aliases={})

    def get_experiment_by_name(self, name: str) -> None:
        assert name


@pytest.mark.parametrize(
    ("dataset", "name", "tags", "goes"),
    [
        ("demo", "reconpatch-demo-nut", {"dataset": "demo"}, True),
        ("demo", "reconpatch-demo-all", {"dataset": "demo"}, True),
        ("demo", "reconpatch-demo-gone", {"dataset": "demo"}, True),  # a category of former parameters
        ("demo", "reconpatch-demo-line2-bolt", {"dataset": "demo"}, True),
        ("demo", "reconpatch-demo-line2-bolt", {"dataset": "demo-line2"}, False),
        ("demo", "reconpatch-demo-nut", {}, True),
        ("demo", "reconpatch-demo-line2-bolt", {}, False),
        ("line_2", "reconpatch-line_2-nut", {"dataset": "line_2"}, True),
        ("line_2", "reconpatch-line-2-nut", {"dataset": "line-2"}, False),
    ],
)
def test_no_version_of_another_data_set_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str, name: str, tags: dict[str, str], goes: bool
) -> None:
    monkeypatch.setattr(housekeeping, "open_client", lambda *_: _Registry({name: tags}))
    settings = parse_settings(
        {
            "pipeline": {"dataset": dataset, "categories": ["nut"]},
            "housekeeping": {"keep_versions": 1, "version_days": 0},
            "monitor": {"log": None},
        }
    )
    found = housekeeping.find_removals(settings, tmp_path, now=_YEAR)
    assert [one.what for one in found] == ([f"{name}/1"] if goes else [])
