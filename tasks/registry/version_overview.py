"""The page of a registered model in the MLflow UI: its versions, best first."""

from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from reconpatch.text.markdown import plain_markdown

METRIC = "image_auroc"  # tag of a version, by which they are ordered
_SHOWN = 10
_COLUMNS = ("figures", "expected false-reject rate", "seconds an image", "gate", "backbone", "parameters")


def publish_overview(client: MlflowClient, model: str, runs: str) -> None:
    """Write the description of a registered model anew.

    Args:
        client: of the registry.
        model: its name.
        runs: link to the runs of all categories.
    """
    client.update_registered_model(model, overview(client.search_model_versions(f"name = '{model}'"), runs))


def overview(versions: Sequence[ModelVersion], runs: str) -> str:
    """A table in Markdown, the best image AUROC first, the later version of equals first."""
    ranked = sorted(versions, key=lambda one: (_rank(one), int(one.version)), reverse=True)
    rows = [
        f"| {one.version} | {' | '.join(map(plain_markdown, _cells(one.tags)))} |" for one in ranked[:_SHOWN]
    ]
    lines = [
        "Versions, the best image AUROC first [95 % interval by group]. Near figures may be noise: the gate "
        f"of each says what can be told apart. [Runs of all categories, the best of each first]({runs})",
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
