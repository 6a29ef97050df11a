"""`reconpatch evaluate`: a detector on labelled test images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reconpatch.cli.category_option import CategoryOption, detector_of, warn_if_pooled
from reconpatch.cli.shared_options import Device, Json, Model, console, write


def evaluate(
    model: Model,
    category: Annotated[Path, typer.Argument(help="folder of one category with test images")],
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for pictures and the table of scores")
    ] = None,
    reviews: Annotated[
        Path | None, typer.Option("--reviews", help="review table, beside what the data's reviews.csv says")
    ] = None,
    named: CategoryOption = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Measure a detector on labelled test images; those whose label a person contradicts are left out.

    A unified model is measured as of the folder's category, where it knows that.
    """
    from reconpatch.data.manifest import build_manifest
    from reconpatch.data.reviews import apply_reviews, read_reviews
    from reconpatch.evaluation.evaluate import evaluate as run_evaluation
    from reconpatch.evaluation.report.html_report import write_evaluation
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
        warn_if_pooled(detector, chosen)
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
        write_evaluation(evaluation, out, lineage_of(detector.member_parts))
    write(json_file, values)
