"""What a training flow shows at its end: one line a detector, on the terminal and in Prefect."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from prefect.artifacts import create_table_artifact
from rich.console import Console
from rich.table import Table

from flows.support.prefect_artifacts import artifact_key
from reconpatch.evaluation.metrics.registry import METRICS
from reconpatch.settings.pipeline_sections import ALL
from tasks.registry.gate_rules import GateReport
from tasks.running.run_stage import Finished
from tasks.running.stage_table import EVALUATIONS

_COLUMNS = {
    "category": "category",
    "backbone": "backbone",
    **{metric.name: metric.label for metric in METRICS if metric.is_headline},
}
# What is known without a labelled defect.
_UNLABELLED = {
    "category": "category",
    "backbone": "backbone",
    "heldout_false_reject_rate": "held-out false rejects",
    "synthetic_detection_rate": "synthetic defects found",
}
_ABSENT = "not available"
_ENSEMBLE, _UNIFIED = "ensemble", "unified"


def summarise(evaluations: Sequence[Finished]) -> list[dict[str, str]]:
    """One row a finished evaluation; a metric without its labels is "not available".

    Of a unified model one row a category, told its name, and one for all as it stands.
    """
    rows = []
    for item in sorted(evaluations, key=lambda one: (EVALUATIONS.index(one.stage), one.job.backbone or "")):
        metrics = json.loads((item.evaluation / "metrics.json").read_text(encoding="utf-8"))
        if not item.job.is_unified:
            rows.append(_row(item.job.category, item.job.backbone or _ENSEMBLE, metrics))
            continue
        name = f"{_UNIFIED}, {item.job.backbone}"
        rows += [_row(one.category, name, metrics, f"{one.category}.") for one in item.job.by_category]
        rows.append(_row(item.job.category, name, metrics))
    return sorted(rows, key=lambda row: (row["category"] == ALL, row["category"]))


def _row(category: str, backbone: str, metrics: Mapping[str, Any], mark: str = "") -> dict[str, str]:
    row = {"category": category, "backbone": backbone}
    for name in [name for name in _COLUMNS | _UNLABELLED if name not in row]:
        value = metrics.get(f"{mark}{name}")
        row[name] = _ABSENT if value is None else f"{value:.4f}"
    return row


def print_table(rows: Sequence[dict[str, str]], title: str) -> None:
    """Print the rows, and of those without a labelled defect what is known all the same."""
    console = Console(markup=False, emoji=False)
    console.print(_table(rows, _COLUMNS, title))
    if unlabelled := [row for row in rows if row["image_auroc"] == _ABSENT]:
        console.print(_table(unlabelled, _UNLABELLED, "Without a labelled defect"))


def _table(rows: Sequence[dict[str, str]], columns: Mapping[str, str], title: str) -> Table:
    table = Table(title=title)
    for name, heading in columns.items():
        table.add_column(heading, justify="left" if name in ("category", "backbone") else "right")
    for row in rows:
        table.add_row(*(row[name] for name in columns))
    return table


def publish_table(rows: Sequence[dict[str, str]], dataset: str) -> None:
    """Keep the rows as a table artifact of the flow run."""
    named = [{heading: row[name] for name, heading in (_COLUMNS | _UNLABELLED).items()} for row in rows]
    create_table_artifact(
        key=artifact_key("metrics", dataset), table=named, description=f"Metrics of {dataset}"
    )


def publish_gate(model: str, version: str, report: GateReport) -> None:
    """Keep the gate's verdict on a version, rule by rule, as a table artifact of the run."""
    against = f"compared with version {report.champion}" if report.champion else "no champion yet"
    key = artifact_key("gate", model, version)
    create_table_artifact(
        key=key, table=report.table, description=f"{model}, version {version}: {report.outcome} ({against})"
    )
