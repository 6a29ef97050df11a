"""`reconpatch update`: more good images into a fitted detector."""

from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.fit_summary import print_fit
from reconpatch.cli.shared_options import Device, Images, Json, Model
from reconpatch.settings import describe


def update(
    model: Model,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="detector folder to write")],
    mode: Annotated[str, typer.Option(help=describe("retrain.update_mode"))] = "frozen",
    earlier: Annotated[
        list[Path] | None, typer.Option(help="images of the fit, to recalibrate on; repeatable")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache, best the fit's")] = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Add good images to a fitted detector, at a small part of the cost of a fit."""
    from reconpatch.detector import ReConPatch
    from reconpatch.storage.detector_config import check_target

    check_target(out)
    detector = ReConPatch.load(model, device=device, cache=cache)
    before = len(detector.training_set)
    detector.update(images, mode=mode, earlier=earlier)  # type: ignore[arg-type]
    detector.save(out)
    typer.echo(f"{len(detector.training_set) - before} new images added to {model}")
    print_fit(out, detector.member_parts, detector.calibration, json_file)
