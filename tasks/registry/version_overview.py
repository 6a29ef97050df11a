"""The page of a registered model in the MLflow UI: its versions, best first."""

from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlencode

from mlflow.entities.model_registry import ModelVersion

from reconpatch.text.markdown import plain_markdown
from tasks.registry.mlflow_store import Experiment

METRIC = "image_auroc"  # tag of a version, by which they are ordered
_SHOWN = 10
_COLUMNS = ("figures", "expected false-reject rate", "seconds an image", "gate", "backbone", "parameters")


def publish_overview(experiment: Experiment, models: Iterable[str], metric: str) -> None:
    """Write the descriptions of registered models anew.

    Args:
        experiment: that holds the runs of all categories.
        models: their names; each is written once.
        metric: by which the linked runs are ordered.
    """
    client, runs = experiment.client, runs_link(experiment.id, metric)
    for model in sorted(set(models)):
        versions = client.search_model_versions(f"name = '{model}'")
        client.update_registered_model(model, overview(versions, runs))


def runs_link(experiment_id: str, metric: str) -> str:
    """A search of the MLflow UI, relative to the server's address: all detectors, the best first."""
    search = {
        "searchFilter": "tags.category != ''",  # detectors, not the parents that hold a pipeline run together
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": "false",
    }
    return f"#/experiments/{experiment_id}/runs?{urlencode(search, quote_via=quote)}"


def overview(versions: Sequence[ModelVersion], runs: str) -> str:
    """A table in Markdown, the best image AUROC first, the later version of equals first."""
    ranked = sorted(versions, key=lambda one: (_rank(one), int(one.version)), reverse=True)
    rows = [
        f"| {one.version} | {' | '.join(map(plain_markdown, _cells(one.tags)))} |" for one in ranked[:_SHOWN]
    ]
    lines = [
        "Versions, the best image AUROC first [95 % interval by group]. Near figures may be noise: the gate "
        f"of each says what can be told apart. [Runs of all categories, the best first]({runs})",
        "",
        f"| version | {' | '.join(_COLUMNS)} |",
        f"|---{'|---' * len(_COLUMNS)}|",
        *rows,
    ]
    if len(ranked) > _SHOWN:
        lines.append(f"\nand {len(ranked) - _SHOWN} more.")
    return "\n".join(lines)


def _rank(version: ModelVersion) -> float:
    try:
        return float(version.tags[METRIC])
    except (KeyError, ValueError):  # no labelled defect, or registered before this tag was
        return float("-inf")


def _cells(tags: dict[str, str]) -> list[str]:
    unknown = "unknown"
    told = [
        tags.get(name, unknown) for name in ("metrics", "expected_false_reject_rate", "seconds_per_image")
    ]
    gate = tags.get("gate", "not a candidate")
    return [*told, gate, tags.get("backbone", unknown), tags.get("params_hash", unknown)[:12]]
