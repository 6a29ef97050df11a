"""`reconpatch export`: a detector as a graph for other runtimes, proven equal."""

from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.shared_options import Json, Model, write
from reconpatch.line.export.formats.format_registry import FORMATS, FormatName

_FORMATS = ", ".join(one.title for one in FORMATS.values())


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="folder to write; complete and proven, or absent")],
    form: Annotated[FormatName, typer.Option("--format", help=_FORMATS)] = "onnx",
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="images of the category, or folders of them, to prove on; repeatable"),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="share of the threshold by which a score may differ")
    ] = 1e-3,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core")] = 0,
    json_file: Json = None,
) -> None:
    """Export a detector as a graph; it fails where the graph does not say what the detector says."""
    from reconpatch.data.file_listing import expand_images
    from reconpatch.line.export.exported_folder import export_detector
    from reconpatch.loading import load

    detector = load(model, device="cpu", threads=threads)
    chosen = expand_images(images) if images else []
    parity = export_detector(detector, form, out, chosen, tolerance=tolerance)
    where = "" if chosen else " (generic photos; pass --images to verify on your own)"
    typer.echo(
        f"{out}: {form}, equal on {parity.images} images{where} and {parity.blends} blends at thresholds, "
        f"{parity.near} of them near one: scores differ by at most {parity.score_difference:.2g} "
        f"({parity.tolerance:.2g} may), maps by {parity.map_difference:.2g}"
    )
    for flip in parity.flips_inside:
        typer.echo(
            f"within the tolerance of {flip.threshold:.6g}, other verdict: {flip.image} {flip.score:.6g}"
        )
    typer.echo(
        f"one image: {parity.exported_ms[0]:.1f} ms (p95 {parity.exported_ms[1]:.1f}), "
        f"the detector itself {parity.native_ms[0]:.1f} ms (p95 {parity.native_ms[1]:.1f})"
    )
    write(json_file, parity.to_dict())
