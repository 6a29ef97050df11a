"""`reconpatch evaluate`, `robustness`, `predict` and `bench`: what a fitted detector says, and how fast."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from reconpatch.cli.shared_options import Device, Images, Json, Log, Model, console, err, write

if TYPE_CHECKING:
    from reconpatch.fitted_detector import FittedDetector
    from reconpatch.unified.unified_detector import Unified

CategoryName = Annotated[
    str | None, typer.Option("--category", help="of a unified model: whose bank and threshold count")
]


def evaluate(
    model: Model,
    category: Annotated[Path, typer.Argument(help="folder of one category with test images")],
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for pictures and the table of scores")
    ] = None,
    reviews: Annotated[
        Path | None, typer.Option("--reviews", help="review table, beside what the data's reviews.csv says")
    ] = None,
    named: CategoryName = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Measure a detector on labelled test images; those whose label a person contradicts are left out.

    A unified model is measured as of the folder's category, where it knows that.
    """
    from reconpatch.data.manifest import build_manifest
    from reconpatch.data.reviews import apply_reviews, read_reviews
    from reconpatch.evaluation.evaluate import evaluate as run_evaluation
    from reconpatch.loading import load
    from reconpatch.storage.detector_folder import lineage_of
    from reconpatch.unified.unified_detector import Unified
    from reconpatch.unified.unified_evaluation import evaluate_category

    detector = load(model, device=device)
    manifest = build_manifest(category, detector.settings.data)
    if reviews is not None:
        manifest = apply_reviews(manifest, read_reviews(reviews))
    if isinstance(detector, Unified):
        folder = category.resolve().name
        chosen = named or (folder if folder in detector.categories else None)
        _say_if_pooled(detector, chosen)
        evaluation = evaluate_category(detector, chosen, manifest, detector.settings)
    else:
        evaluation = run_evaluation(detector_of(detector, named), manifest, detector.settings)
    values = evaluation.to_dict()
    table = Table("metric", "value", title=evaluation.category)
    for name, value in values.items():
        if isinstance(value, (int, float)) or value is None:
            table.add_row(
                name,
                "not available"
                if value is None
                else f"{value:.4f}"
                if isinstance(value, float)
                else str(value),
            )
    console.print(table)
    for name, reason in evaluation.not_available.items():
        typer.echo(f"{name}: not available ({reason})")
    if out is not None:
        evaluation.write(out, lineage_of(detector.member_parts))
    write(json_file, values)


def robustness(
    category: Annotated[Path, typer.Argument(help="folder of one category with test images")],
    models: Annotated[list[str], typer.Argument(help="detector folders or MLflow URIs, side by side")],
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Measure what detectors lose when test images are turned, shifted, lit otherwise, blurred or noisy."""
    from reconpatch.data.file_listing import printable
    from reconpatch.data.manifest import build_manifest
    from reconpatch.evaluation.metrics.registry import headlines
    from reconpatch.evaluation.robustness import measure_robustness
    from reconpatch.loading import load

    detectors = {model: load(model, device=device) for model in models}
    settings = next(iter(detectors.values())).settings
    rows = measure_robustness(detectors, build_manifest(category, settings.data), settings)
    table = Table("detector", "disturbance", *headlines(), "drops", title=printable(category.resolve().name))
    for row in rows:
        figures = ["-" if value is None else f"{value:.4f}" for value in row.figures]
        drops = ", ".join("-" if value is None else f"{value:+.4f}" for value in row.drops)
        table.add_row(row.detector, f"{row.corruption} {row.strength}".strip(), *figures, drops)
    console.print(table)
    write(json_file, [asdict(row) for row in rows])


def predict(
    model: Model,
    images: Images,
    maps: Annotated[Path | None, typer.Option("--maps", help="folder for the heat maps")] = None,
    category: CategoryName = None,
    log: Log = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Score images: one line each with path, score and verdict; exit 1 when some could not be read."""
    from reconpatch.data.file_listing import expand_images, printable
    from reconpatch.evaluation.report.heatmaps import write_heatmap
    from reconpatch.loading import load
    from reconpatch.prediction import stream_readable

    problems: dict[Path, str] = {}
    if log is None:
        detector = detector_of(load(model, device=device), category)
        predictions = stream_readable(detector.stream, expand_images(images), problems)
    else:
        from reconpatch.line.monitoring.prediction_recorder import logged
        from reconpatch.line.server.model_source import parse_sources

        (source,) = parse_sources([model])
        loaded, version = source.load(device=device, threads=0)
        detector = detector_of(loaded, category)
        groups = detector.settings.data.group_pattern
        readable = stream_readable(detector.stream, expand_images(images), problems)
        predictions = logged(readable, log, category or source.category, version, groups)
    rows: list[dict[str, object]] = []
    for prediction in predictions:
        verdict = {True: "anomalous", False: "good", None: "not calibrated"}[prediction.is_anomalous]
        if prediction.band == "review":
            verdict += " (review)"
        path = printable(str(prediction.path))
        typer.echo(f"{path}\t{prediction.score:.6f}\t{verdict}")
        rows.append(
            {
                "path": path,
                "score": prediction.score,
                "is_anomalous": prediction.is_anomalous,
                "band": prediction.band,
                "false_reject_probability": prediction.false_reject_probability,
                "problem": None,
            }
        )
        if maps is not None:
            write_heatmap(maps, prediction, detector)
    for image, problem in problems.items():
        err.print(Text.assemble(("error", "red"), f" {printable(problem)}"), soft_wrap=True)
        row = dict.fromkeys(("score", "is_anomalous", "band", "false_reject_probability"))
        rows.append({"path": printable(image), **row, "problem": problem})
    write(json_file, rows)
    if problems:
        raise typer.Exit(1)


def bench(
    model: Model,
    images: Images,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core")] = 0,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Time predictions on this machine: latency of single images, images per second of many."""
    from reconpatch.data.file_listing import expand_images
    from reconpatch.evaluation.speed import measure_speed
    from reconpatch.loading import load

    detector = load(model, device=device, threads=threads)
    speed = measure_speed(detector, expand_images(images))
    typer.echo(f"{speed.hardware}, {speed.threads} threads, torch {speed.torch}")
    typer.echo(
        f"one image: p50 {speed.latency_p50_ms:.1f} ms, p95 {speed.latency_p95_ms:.1f} ms; "
        f"many: {speed.images_per_second:.1f} images/s; peak memory {speed.peak_rss_mib:.0f} MiB"
    )
    write(json_file, speed.to_dict())


def detector_of(detector: "FittedDetector", category: str | None) -> "FittedDetector":
    """The detector of the category that --category names; without a name the one given.

    Raises:
        SettingsError: a category is named, and the detector is of one alone.
        ModelError: the unified model was not fitted on it.
    """
    from reconpatch.unified.unified_detector import Unified, choose_category

    if isinstance(detector, Unified):
        _say_if_pooled(detector, category)
    return choose_category(detector, category)


def _say_if_pooled(detector: "Unified", category: str | None) -> None:
    if category is None:
        err.print(
            f"no category of the model ({', '.join(detector.categories)}) is named, so the pooled threshold "
            "counts, which promises no false-reject rate for any one of them; name one by --category",
            soft_wrap=True,
        )
