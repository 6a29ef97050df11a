"""`reconpatch fit`: from good images to a detector folder."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconpatch.cli.fit_summary import calibration_text, print_fit
from reconpatch.cli.shared_options import Json, Overrides, Params, Preset

if TYPE_CHECKING:
    from reconpatch.settings import Settings


def fit(
    images: Annotated[
        Path, typer.Argument(help="folder of one category, such as data/mvtec/bottle; of all with --unified")
    ],
    out: Annotated[Path, typer.Option("--out", help="detector folder to write")],
    unified: Annotated[
        bool, typer.Option("--unified", help="one model for all categories in the folder")
    ] = False,
    params: Params = None,
    preset: Preset = None,
    overrides: Overrides = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache")] = None,
    json_file: Json = None,
) -> None:
    """Fit a detector on the good images of a category, or an ensemble where `pipeline.fuse` asks for one.

    With --unified one model on all categories in a folder; `unified.bank` says whether they share a bank.
    """
    from reconpatch.ensemble import fit_folder
    from reconpatch.settings import load_settings
    from reconpatch.storage.detector_config import check_target

    check_target(out)
    settings = load_settings(params, overrides or (), preset=preset)
    for line in _promises(images, settings, unified):
        typer.echo(line)
    if unified:
        _fit_unified(images, settings, out, cache, json_file)
        return
    detector = fit_folder(images, settings, cache)
    detector.save(out)
    print_fit(out, detector.member_parts, detector.calibration, json_file)


def _promises(images: Path, settings: "Settings", unified: bool) -> list[str]:
    """What can be promised, a line a category, before the work is done."""
    from reconpatch.calibration.promise import promise_line
    from reconpatch.data.layouts import category_roots

    roots = category_roots(images) if unified else {images.resolve().name: images}
    lines = (promise_line(name, root, settings) for name, root in roots.items())
    return [line for line in lines if line is not None]


def _fit_unified(
    root: Path, settings: "Settings", out: Path, cache: Path | None, json_file: Path | None
) -> None:
    from reconpatch.detector import ReConPatch
    from reconpatch.errors import SettingsError
    from reconpatch.unified.unified_detector import fit_unified

    if settings.pipeline.fuse:
        raise SettingsError(
            "pipeline.fuse: a unified model is of one backbone; set it to [] or fit without --unified"
        )
    detector = fit_unified(root, ReConPatch(settings=settings, cache=cache))
    detector.save(out)
    for record in detector.history:
        watched = (
            ""
            if record.ratio is None
            else (f", validation {record.validation_loss:.4f}, ratio {record.ratio:.4f}")
        )
        typer.echo(f"step {record.step}: training loss {record.train_loss:.4f}{watched}")
    for name in detector.categories:
        one = detector.of_category(name)
        typer.echo(f"{name}: {len(one.training_set)} images, {calibration_text(one.calibration)}")
    history = [asdict(record) for record in detector.history]
    print_fit(
        out,
        detector.member_parts,
        detector.calibration,
        json_file,
        {"categories": detector.categories, "history": history},
    )
