"""One self-contained HTML page a category: opens anywhere, asks the network for nothing."""

import base64
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from reconpatch.evaluation.evaluation_result import METRICS, PIXELS, REPORT, SCORES, Evaluation
from reconpatch.evaluation.metrics import registry
from reconpatch.evaluation.metrics.registry import Metric
from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.evaluation.report.heatmaps import heatmap_figure
from reconpatch.evaluation.report.score_plots import curves_figure, histogram_figure
from reconpatch.evaluation.score_summary import Metrics
from reconpatch.storage.atomic_files import atomic_file, write_json
from reconpatch.text.csv_files import write_frame

PICTURES = {"scores": "Score distribution", "curves": "ROC and precision-recall", "heat_maps": "Heat maps"}
_CAPTIONS = {
    "scores": "Score of every test image. Right of the dashed line an image is rejected; in the "
    "shaded band a person should look.",
    "curves": "What each threshold would give; the dot is the threshold in use.",
    "heat_maps": "Input, ground truth (cyan), anomaly map, all on one colour scale; the white line lies at "
    "the value marked on it. Shown are the hardest defects, the hardest good images and typical ones.",
}
_STYLE = """
:root{color-scheme:light}
body{font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;margin:0;
color:#1d2530;background:#f4f6f8}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:25px;margin:0 0 2px}h2{font-size:17px;margin:0 0 10px}
.sub{color:#5f6b76;margin:0 0 20px}
section{background:#fff;border:1px solid #e0e5ea;border-radius:8px;padding:18px 20px;margin:0 0 18px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:0 0 18px}
.card{background:#fff;border:1px solid #e0e5ea;border-radius:8px;padding:12px 14px}
.card b{display:block;font-size:23px;font-weight:650}
.card span,.card i{color:#5f6b76;font-size:13px;font-style:normal}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 10px;border-bottom:1px solid #edf0f3;vertical-align:top}
th{color:#5f6b76;font-weight:600;font-size:13px}td.n,th.n{text-align:right}
td.bad{color:#b3263a;font-weight:650}.none{color:#5f6b76}
img{max-width:100%;height:auto;display:block}code{font-size:12px;word-break:break-all}
figcaption,p.note{color:#5f6b76;font-size:13px}figure{margin:0}
"""


def draw_pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """PNG by name, those of `PICTURES` that the test set allows."""
    table, metrics = evaluation.table, evaluation.metrics
    threshold, title = metrics["threshold"], evaluation.category
    pictures = {}
    if len(table):
        pictures["scores"] = png_bytes(
            histogram_figure(table, threshold, metrics["d_prime"], title, metrics["review_threshold"])
        )
    if metrics["image_auroc"] is not None:
        pictures["curves"] = png_bytes(curves_figure(table, threshold, title))
    if evaluation.examples and evaluation.scale is not None:
        pictures["heat_maps"] = png_bytes(heatmap_figure(evaluation.examples, evaluation.scale, title))
    return pictures


def render_report(evaluation: Evaluation, pictures: Mapping[str, bytes], lineage: Mapping[str, Any]) -> str:
    """The page as text; the same arguments give the same bytes.

    Args:
        evaluation: its metrics and tables; timings are left out.
        pictures: as `draw_pictures` gives them.
        lineage: facts on data and model, shown as they are.
    """
    name = escape(evaluation.category)
    sections = [
        _section("Verdicts", _verdicts(evaluation)),
        _section("Defect types", _types(evaluation)),
        *(_section(PICTURES[key], _figure(key, data)) for key, data in pictures.items()),
        _section("All metrics", _all_metrics(evaluation)),
        _section("Not available", _table(("metric", "reason"), evaluation.not_available.items())),
        _section("Data and model", _table(("fact", "value"), ((k, v) for k, v in lineage.items()))),
    ]
    counts = evaluation.metrics
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{name}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{name}</h1>"
        f'<p class="sub">{counts["n_train"]} good training images, {counts["n_test"]} test images; '
        f"ranges below metrics are 95 % intervals by group</p>"
        f'<div class="cards">{_cards(evaluation)}</div>{"".join(sections)}</main></body></html>\n'
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _cards(evaluation: Evaluation) -> str:
    metrics = evaluation.metrics
    cards = []
    for metric in registry.METRICS:
        if not metric.is_card or metrics.get(metric.name) is None:
            continue
        value = _number(metrics[metric.name], share=metric.is_share)
        card = f"<span>{escape(metric.label)}</span><b>{value}</b><i>{_interval(metrics, metric)}</i>"
        cards.append(f'<div class="card" title="{escape(_meaning(metric))}">{card}</div>')
    return "".join(cards)


def _verdicts(evaluation: Evaluation) -> str:
    table, threshold = evaluation.table, evaluation.metrics["threshold"]
    if threshold is None or not len(table):
        return ""
    review = evaluation.metrics["review_threshold"]
    rows = []
    for label, name in ((0, "good"), (1, "defective")):
        scores = table.loc[table["label"] == label, "score"]
        if scores.size:
            rejected, unusual = int((scores > threshold).sum()), int((scores > review).sum())
            rows.append((name, scores.size - unusual, unusual - rejected, rejected, scores.size))
    note = (
        f'<p class="note">Rejected above {threshold:.5g}, to be reviewed above {review:.5g}; both chosen '
        "from good images only.</p>"
    )
    return _table(("truth", "accepted", "to review", "rejected", "images"), rows) + note


def _types(evaluation: Evaluation) -> str:
    rows = []
    for name, values in evaluation.defect_types.items():
        row = [name, values["n"]]
        for metric in map(registry.find, ("image_auroc", "detection_rate")):
            row += [_number(values[metric.name], share=metric.is_share), _interval(values, metric)]
        rows.append(tuple(row))
    return _table(("type", "images", "image AUROC", "95 % interval", "detected", "95 % interval"), rows)


def _all_metrics(evaluation: Evaluation) -> str:
    return _table(("metric", "value"), ((key, _number(value)) for key, value in evaluation.metrics.items()))


def _figure(key: str, data: bytes) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f'<figure><img alt="{PICTURES[key]}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{_CAPTIONS[key]}</figcaption></figure>"
    )


def _number(value: float | int | None, share: bool = False) -> str:
    if value is None:
        return "not available"
    if share:
        return f"{100 * value:.1f} %"
    if isinstance(value, int):
        return str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def _interval(values: Metrics, metric: Metric) -> str:
    low, high = values.get(f"{metric.name}_low"), values.get(f"{metric.name}_high")
    if low is None or high is None:
        return ""
    if metric.is_share:
        return f"{100 * low:.1f} to {100 * high:.1f} %"
    return f"{low:.4f} to {high:.4f}"


def _meaning(metric: Metric) -> str:
    direction = "larger" if metric.larger_is_better else "smaller"
    return f"{metric.description}; {metric.lowest:g} to {metric.highest:g}, {direction} is better"


def _table(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return ""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def write_evaluation(evaluation: Evaluation, folder: Path, lineage: Mapping[str, Any] | None = None) -> None:
    """Write metrics.json, scores.csv, pixel histograms, report.html and its pictures, each atomically.

    The timings stay out, so that equal evaluations are equal bytes. Pictures of an earlier evaluation
    that this one has not are removed.

    Args:
        evaluation: what `evaluate` gave.
        folder: made when missing.
        lineage: facts on data and model for the report, such as digests and versions.
    """
    write_json(folder / METRICS, evaluation.deterministic())
    write_frame(folder / SCORES, evaluation.table)
    if evaluation.pixels is not None:
        evaluation.pixels.save(folder / PIXELS)
    pictures = draw_pictures(evaluation)
    for name in PICTURES:
        (folder / f"{name}.png").unlink(missing_ok=True)
    for name, data in pictures.items():
        with atomic_file(folder / f"{name}.png") as temporary:
            temporary.write_bytes(data)
    with atomic_file(folder / REPORT) as temporary:
        temporary.write_text(render_report(evaluation, pictures, lineage or {}), encoding="utf-8")
