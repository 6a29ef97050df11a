"""The command line: thin commands over the library.

Exit status: 0 done, 1 the data or the model failed a check, 2 wrong usage.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reconpatch.errors import ReConPatchError, SettingsError

if TYPE_CHECKING:
    from reconpatch.model_folder import FittedParts

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data_app = typer.Typer(no_args_is_help=True, help="Image sets: make one, check one.")
app.add_typer(data_app, name="data")

Params = Annotated[Path | None, typer.Option("--params", help="params file; default: the built-in defaults")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, repeatable")]
Json = Annotated[Path | None, typer.Option("--json", help="also write the result as JSON")]
Model = Annotated[str, typer.Argument(help="detector folder or MLflow URI (models:/name@alias)")]
Images = Annotated[list[Path], typer.Argument(help="images, or folders of images")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda[:n]")]

# Paths and reasons are the user's text: what looks like markup or an emoji code in them is none.
_out = Console(markup=False, emoji=False, highlight=False)
_err = Console(markup=False, emoji=False, highlight=False, stderr=True)


@data_app.command("demo")
def data_demo(
    folder: Annotated[Path, typer.Argument(help="where the data set is written")],
    seed: Annotated[int, typer.Option(help="seed of the generator")] = 0,
) -> None:
    """Build the demo set from real CC0 photographs; needs no network."""
    from reconpatch.data.demo import make_demo

    make_demo(folder, seed=seed)
    typer.echo(f"Demo data set in {folder}")


@data_app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="a data set or one category of it")],
    params: Params = None,
    overrides: Overrides = None,
    json_file: Json = None,
) -> None:
    """Report every problem of a data set at once; exit 1 when one is critical."""
    from reconpatch.data.layouts import category_roots
    from reconpatch.data.manifest import build_manifest
    from reconpatch.integrations.expectations import check_manifest
    from reconpatch.settings import load_settings

    settings = load_settings(params, overrides or ())
    reports: dict[str, Any] = {}
    for category, root in category_roots(folder).items():
        manifest = build_manifest(root, settings.data)
        report = check_manifest(manifest, settings.validate_)
        reports[category] = report.to_dict()
        for problem in report.problems:
            typer.echo(f"{problem.severity:8} {category}/{problem.path or ''}: {problem.reason}")
        verdict = "passed" if report.success else "FAILED"
        typer.echo(f"{category}: {len(manifest)} images, {len(report.problems)} problems, {verdict}")
    _write(json_file, reports)
    if not all(report["success"] for report in reports.values()):
        raise typer.Exit(1)


@app.command()
def init(
    images: Annotated[Path, typer.Argument(help="your images: one category, or a folder of categories")],
    name: Annotated[str | None, typer.Option(help="name of the data set; default: the folder's")] = None,
    project: Annotated[Path, typer.Option(help="root of the project")] = Path(),
) -> None:
    """Bring your own images: data/<name>.dvc and params.yaml, ready for `python -m flows.train`."""
    from reconpatch.integrations.project import initialise

    done = initialise(images, project, name)
    typer.echo(f"{done.dataset}: {', '.join(done.categories)} in {done.root}, versioned by {done.dvc_file}")
    typer.echo("Next: python -m flows.train")


@app.command()
def fit(
    category: Annotated[Path, typer.Argument(help="folder of one category, such as data/mvtec/bottle")],
    out: Annotated[Path, typer.Option("--out", help="detector folder to write")],
    params: Params = None,
    overrides: Overrides = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache")] = None,
    json_file: Json = None,
) -> None:
    """Fit a detector on the good images of a category."""
    from reconpatch.detector import ReConPatch
    from reconpatch.model_folder import check_target
    from reconpatch.settings import load_settings

    check_target(out)
    detector = ReConPatch(settings=load_settings(params, overrides or ()), cache=cache).fit(category)
    detector.save(out)
    _describe(out, detector.parts, json_file)


@app.command()
def update(
    model: Model,
    images: Images,
    out: Annotated[Path, typer.Option("--out", help="detector folder to write")],
    mode: Annotated[str, typer.Option(help="frozen keeps f, fine-tune trains it further")] = "frozen",
    earlier: Annotated[
        list[Path] | None, typer.Option(help="images of the fit, to recalibrate on; repeatable")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache, best the fit's")] = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Add good images to a fitted detector, at a small part of the cost of a fit."""
    from reconpatch.detector import ReConPatch
    from reconpatch.model_folder import check_target

    check_target(out)
    detector = ReConPatch.load(model, device=device, cache=cache)
    before = len(detector.parts.training_set)
    detector.update(images, mode=mode, earlier=earlier)  # type: ignore[arg-type]
    detector.save(out)
    typer.echo(f"{len(detector.parts.training_set) - before} new images added to {model}")
    _describe(out, detector.parts, json_file)


@app.command()
def evaluate(
    model: Model,
    category: Annotated[Path, typer.Argument(help="folder of one category with test images")],
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for pictures and the table of scores")
    ] = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Measure a detector on labelled test images."""
    from reconpatch.data.manifest import build_manifest
    from reconpatch.detector import ReConPatch
    from reconpatch.evaluation.evaluate import evaluate as run_evaluation

    detector = ReConPatch.load(model, device=device)
    evaluation = run_evaluation(detector, build_manifest(category, detector.settings.data), detector.settings)
    values = evaluation.to_dict()
    table = Table("metric", "value", title=f"{category.name}")
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
    _out.print(table)
    for name, reason in evaluation.not_available.items():
        typer.echo(f"{name}: not available ({reason})")
    if out is not None:
        evaluation.write(out)
    _write(json_file, values)


@app.command()
def predict(
    model: Model,
    images: Images,
    maps: Annotated[Path | None, typer.Option("--maps", help="folder for the heat maps")] = None,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Score images: one line each with path, score and verdict."""
    from reconpatch.data.listing import expand_images
    from reconpatch.detector import ReConPatch
    from reconpatch.evaluation.heatmaps import write_heatmap

    detector = ReConPatch.load(model, device=device)
    rows = []
    for prediction in detector.stream(expand_images(images)):
        verdict = {True: "anomalous", False: "good", None: "not calibrated"}[prediction.is_anomalous]
        typer.echo(f"{prediction.path}\t{prediction.score:.6f}\t{verdict}")
        rows.append(
            {"path": prediction.path, "score": prediction.score, "is_anomalous": prediction.is_anomalous}
        )
        if maps is not None:
            write_heatmap(maps, prediction, detector)
    _write(json_file, rows)


@app.command()
def bench(
    model: Model,
    images: Images,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: every core")] = 0,
    device: Device = "auto",
    json_file: Json = None,
) -> None:
    """Time predictions on this machine: latency of single images, images per second of many."""
    from reconpatch.benchmarking import measure_speed
    from reconpatch.data.listing import expand_images
    from reconpatch.detector import ReConPatch

    detector = ReConPatch.load(model, device=device, threads=threads)
    speed = measure_speed(detector, expand_images(images))
    typer.echo(f"{speed.hardware}, {speed.threads} threads, torch {speed.torch}")
    typer.echo(
        f"one image: p50 {speed.latency_p50_ms:.1f} ms, p95 {speed.latency_p95_ms:.1f} ms; "
        f"many: {speed.images_per_second:.1f} images/s; peak memory {speed.peak_rss_mib:.0f} MiB"
    )
    _write(json_file, speed.to_dict())


def _describe(out: Path, parts: "FittedParts", json_file: Path | None) -> None:
    calibration, size = parts.calibration, len(parts.training_set)
    if calibration is None:
        verdicts = "not calibrated (too few groups to hold any out)"
    else:
        verdicts = f"threshold {calibration.threshold.value:.4f} from {calibration.threshold.n} images"
        if calibration.carried_over:
            verdicts += (
                ", carried over: the held-out images were not at hand; give them by --earlier or --cache"
            )
    typer.echo(f"{out}: {size} images, bank {len(parts.bank)} x {parts.bank.dim}, {verdicts}")
    values = {
        "model": str(out),
        "n_train": size,
        "bank": [len(parts.bank), parts.bank.dim],
        "threshold": None if calibration is None else calibration.threshold.value,
        "carried_over": calibration is not None and calibration.carried_over,
    }
    _write(json_file, values)


def _write(path: Path | None, value: Any) -> None:
    from reconpatch.files import write_json

    if path is not None:
        write_json(path, value)


def _fail(error: ReConPatchError, status: int) -> NoReturn:
    line = " ".join(part.strip() for part in str(error).splitlines())
    _err.print(Text.assemble(("error", "red"), f" {line}"), soft_wrap=True)
    sys.exit(status)


def main() -> None:
    """Run the command line and turn the library's errors into one clear line and an exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("reconpatch").setLevel(logging.INFO)
    try:
        app()
    except SettingsError as error:
        _fail(error, 2)
    except ReConPatchError as error:
        _fail(error, 1)
