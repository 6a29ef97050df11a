"""`reconpatch robustness`: what detectors lose on disturbed images."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reconpatch.cli.shared_options import Device, Json, console, write


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
