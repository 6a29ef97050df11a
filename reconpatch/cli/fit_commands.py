"""`reconpatch fit` and `update`: from good images to a detector folder."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reconpatch.cli.shared_options import Device, Images, Json, Model, Overrides, Params, Preset, write
from reconpatch.settings import describe

if TYPE_CHECKING:
    from reconpatch.calibration.calibration import Calibration
    from reconpatch.settings import Settings
    from reconpatch.storage.detector_folder import FittedParts


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
    from reconpatch.model.ensemble import Ensemble, fit_detector
    from reconpatch.settings import load_settings
    from reconpatch.storage.detector_folder import check_target

    check_target(out)
    settings = load_settings(params, overrides or (), preset=preset)
    for line in _promises(images, settings, unified):
        typer.echo(line)
    if unified:
        _fit_unified(images, settings, out, cache, json_file)
        return
    detector = fit_detector(images, settings, cache)
    detector.save(out)
    members = detector.members if isinstance(detector, Ensemble) else (detector,)
    _describe(out, [member.parts for member in members], detector.calibration, json_file)


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
    from reconpatch.storage.detector_folder import check_target

    check_target(out)
    detector = ReConPatch.load(model, device=device, cache=cache)
    before = len(detector.parts.training_set)
    detector.update(images, mode=mode, earlier=earlier)  # type: ignore[arg-type]
    detector.save(out)
    typer.echo(f"{len(detector.parts.training_set) - before} new images added to {model}")
    _describe(out, [detector.parts], detector.calibration, json_file)


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
        typer.echo(f"{name}: {len(one.training_set)} images, {_verdicts(one.calibration)}")
    history = [asdict(record) for record in detector.history]
    _describe(
        out,
        [detector.parts],
        detector.calibration,
        json_file,
        {"categories": detector.categories, "history": history},
    )


def _describe(
    out: Path,
    members: "list[FittedParts]",
    calibration: "Calibration | None",
    json_file: Path | None,
    more: Mapping[str, Any] | None = None,
) -> None:
    size = len(members[0].training_set)
    banks = " and ".join(f"{len(parts.bank)} x {parts.bank.dim}" for parts in members)
    typer.echo(f"{out}: {size} images, bank {banks}, {_verdicts(calibration)}")
    threshold = None if calibration is None else calibration.threshold
    values = {
        "model": str(out),
        "n_train": size,
        "bank": [sum(len(parts.bank) for parts in members), members[0].bank.dim],
        "threshold": None if threshold is None else threshold.value,
        "false_reject_rate": None if threshold is None else threshold.false_reject_rate,
        "false_reject_interval": None if threshold is None else list(threshold.interval),
        "calibration": None if calibration is None else calibration.to_dict(),
        "carried_over": calibration is not None and calibration.carried_over,
    }
    write(json_file, values | dict(more or {}))


def _verdicts(calibration: "Calibration | None") -> str:
    if calibration is None:
        return "not calibrated (too few groups to hold any out)"
    threshold, review = calibration.threshold, calibration.review
    low, high = threshold.interval
    text = (
        f"threshold {threshold.value:.4f} rejects {100 * threshold.false_reject_rate:.2g} % of good images "
        f"(95 %: {100 * low:.2g} to {100 * high:.2g} %), from {threshold.n} groups, "
        f"{len(calibration.nominal.values)} images; review from {review.value:.4f} "
        f"({100 * review.false_reject_rate:.2g} %)"
    )
    if calibration.method == "crossfit":
        text += "; approximate (crossfit)"
    if calibration.carried_over:
        text += "; carried over: the held-out images were not at hand; give them by --earlier or --cache"
    return text
