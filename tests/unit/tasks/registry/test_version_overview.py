"""The description of a registered model, and the search that it links to."""

from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

from mlflow.entities.model_registry import ModelVersion

from tasks.registry.mlflow_store import Experiment
from tasks.registry.version_overview import overview, publish_overview, runs_link


def version(number: int, **tags: str) -> ModelVersion:
    return ModelVersion("nut", number, 0, tags=[SimpleNamespace(key=key, value=tags[key]) for key in tags])


def test_the_best_version_comes_first_and_the_later_of_equals() -> None:
    found = [
        version(1, image_auroc="0.9"),
        version(2),
        version(3, image_auroc="0.9"),
        version(4, gate="refused"),
    ]
    rows = overview(found, "#/runs").splitlines()[4:]
    assert [row.split()[1] for row in rows] == ["3", "1", "4", "2"]


def test_the_link_is_a_search_for_detectors_by_the_metric() -> None:
    page, _, query = runs_link("7", "aupro").partition("?")
    assert page == "#/experiments/7/runs"
    assert parse_qs(query) == {
        "searchFilter": ["tags.category != ''"], "orderByKey": ["metrics.`aupro`"], "orderByAsc": ["false"],
    }  # fmt: skip
    assert not set("()[] `'") & set(urlsplit(runs_link("7", "aupro")).fragment)  # it stands in Markdown


def test_only_the_description_of_each_model_is_written() -> None:
    written: dict[str, str] = {}
    client = SimpleNamespace(
        search_model_versions=lambda _: [version(1, image_auroc="0.9")],
        update_registered_model=lambda name, text: written.setdefault(name, text),
    )
    publish_overview(Experiment(client, "7"), ["nut", "bolt", "nut"], "aupro")
    assert list(written) == ["bolt", "nut"]
    assert runs_link("7", "aupro") in written["nut"]
