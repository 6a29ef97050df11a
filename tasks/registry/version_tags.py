"""What a registered version says of itself: tags for programs, a description for people."""

import json
from collections.abc import Mapping
from typing import Any

from reconpatch.data.manifest import read_manifest
from reconpatch.evaluation.evaluation_result import SCORES
from reconpatch.evaluation.evaluation_set import evaluation_set_digest
from reconpatch.storage.detector_config import CALIBRATION
from reconpatch.storage.detector_folder import read_training_set
from reconpatch.text.csv_files import read_frame
from tasks.registry.finished_evaluation import FinishedEvaluation
from tasks.registry.version_overview import METRIC

_NAMES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "aupro": "AUPRO",
    "image_f1_max": "best image F1",
    "detection_rate": "detection rate",
    "false_reject_rate": "false-reject rate (test)",
    "seconds_per_image": "seconds an image",
}
_MIB = 2**20


def version_tags(evaluation: FinishedEvaluation) -> dict[str, str]:
    """Facts on the detector that are no figures of its evaluation."""
    config, metrics = evaluation.config(), evaluation.metrics()
    table = read_manifest(evaluation.checks / "manifest.parquet")
    scores = evaluation.folder / SCORES
    tested = table.loc[table["split"] == "test", "path"]
    scored = read_frame(scores, text=["path"])["path"] if scores.is_file() else tested
    sizes = [path.stat().st_size for path in evaluation.model.rglob("*") if path.is_file()]
    banks = [path.stat().st_size for path in evaluation.model.rglob("bank.safetensors")]
    tags = {
        "updates": str(read_training_set(evaluation.model).updates),
        "updated_from": evaluation.updated_from or "none",
        "n_train": str(config.get("n_train", "unknown")),
        "n_test": str(len(scored)),
        "bank_vectors": str(_bank_vectors(evaluation)),
        "bank_bytes": str(sum(banks)),
        "model_bytes": str(sum(sizes)),
        "seconds_per_image": _number(metrics.get("seconds_per_image")),
        "metrics": headline(metrics),
        METRIC: _number(metrics.get(METRIC)),
        "evaluation_set_sha256": evaluation_set_digest(table, scored),
    }
    threshold = _threshold(evaluation)
    if threshold is None:
        return tags | {"threshold": "not calibrated", "expected_false_reject_rate": "not available"}
    low, high = threshold["interval"]
    return tags | {
        "threshold": _number(threshold["value"]),
        "expected_false_reject_rate": f"{threshold['false_reject_rate']:.4f} [{low:.4f}, {high:.4f}], "
        f"{threshold['n']} groups",
    }


def headline(metrics: Mapping[str, float | None]) -> str:
    """The figures that people compare versions by, with their 95 % intervals where there are any."""
    names = ("image_auroc", "pixel_auroc", "aupro")
    return ", ".join(f"{_NAMES[name]} {_with_interval(name, metrics)}" for name in names)


def describe(evaluation: FinishedEvaluation, tags: Mapping[str, str], run_id: str, experiment_id: str) -> str:
    """Markdown for the version's page: figures first, then where it came from."""
    method = "ReConPatch" if evaluation.settings.modulation.enabled else "PatchCore"
    metrics = evaluation.metrics()
    kept = f"#/experiments/{experiment_id}/runs/{run_id}/artifacts"
    figures = [
        f"| {label} | {_with_interval(name, metrics)} |" for name, label in _NAMES.items() if name in metrics
    ]
    origin = {
        "threshold": f"{tags['threshold']}, expected false-reject rate {tags['expected_false_reject_rate']}",
        "training images": f"{tags['n_train']}, sha256 `{tags['training_set_sha256']}`",
        "test images": f"{tags['n_test']}, evaluation set `{tags['evaluation_set_sha256']}`",
        "data": f"DVC `{tags['dvc_data_hash']}`; [manifest]({kept}/data)",
        "code": f"git `{tags['git_commit']}`, dirty: {tags['git_dirty']}; parameters `{tags['params_hash']}`",
        "environment": f"lock file `{tags['lock_file_hash']}`, Python {tags['python']}, {tags['blas']}, "
        f"{tags['threads']} threads, {tags['device']}",
        "backbone": f"{tags['backbone']}, weights `{tags['weights_sha256']}`",
        "memory bank": f"{tags['bank_vectors']} vectors, {int(tags['bank_bytes']) / _MIB:.1f} MiB",
        "heat maps": f"[pictures]({kept}/evaluation/plots)",
    }
    by_category = _by_category(metrics)
    facts = [f"| {name} | {text} |" for name, text in origin.items()]
    head = f"{method} on {evaluation.backbone}: {headline(metrics)}."
    if by_category:
        head += " One model for all categories, asked without telling which; where told, see below."
    table = ["| figure | value [95 % interval] |", "|---|---|", *figures, *by_category, *facts]
    return "\n".join([head, "", *table])


def _by_category(metrics: Mapping[str, float | None]) -> list[str]:
    """Rows on each category of a unified model, and on their means; none of another detector."""
    mark = f".{METRIC}"
    names = [key.removesuffix(mark) for key in metrics if key.endswith(mark)]
    if not names:
        return []
    parts = {f"{name}, category told": f"{name}." for name in names} | {"mean of these": "mean_"}
    rows = []
    for label, start in parts.items():
        own = {key.removeprefix(start): value for key, value in metrics.items() if key.startswith(start)}
        rows.append(f"| {label} | {headline(own)} |")
    return rows


def _with_interval(name: str, metrics: Mapping[str, float | None]) -> str:
    value = metrics.get(name)
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    if value is None or low is None or high is None:
        return _number(value)
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _number(value: float | None) -> str:
    return "not available" if value is None else f"{value:.4f}"


def _threshold(evaluation: FinishedEvaluation) -> dict[str, Any] | None:
    path = evaluation.model / CALIBRATION
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["threshold"]
    return found


def _bank_vectors(evaluation: FinishedEvaluation) -> int:
    """Rows of every bank, from the heads of the files: no bank is read."""
    count = 0
    for path in evaluation.model.rglob("bank.safetensors"):
        with path.open("rb") as stream:
            head = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        count += max((one["shape"][0] for name, one in head.items() if name != "__metadata__"), default=0)
    return count
