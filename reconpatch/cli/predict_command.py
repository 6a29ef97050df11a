"""`reconpatch predict`: score and verdict of images."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from reconpatch.cli.category_option import CategoryOption, detector_of
from reconpatch.cli.shared_options import Device, Images, Json, Log, Model, err, write


def predict(
    model: Model,
    images: Images,
    maps: Annotated[Path | None, typer.Option("--maps", help="folder for the heat maps")] = None,
    category: CategoryOption = None,
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
