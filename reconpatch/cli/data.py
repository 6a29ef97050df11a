"""`reconpatch data ...`: image sets."""

from pathlib import Path
from typing import Annotated

import typer

from reconpatch.cli.options import Json, Overrides, Params, write

app = typer.Typer(no_args_is_help=True, help="Image sets: make one, check one.")


@app.command("demo")
def data_demo(
    folder: Annotated[Path, typer.Argument(help="where the data set is written")],
    seed: Annotated[int, typer.Option(help="seed of the generator")] = 0,
) -> None:
    """Build the demo set from real CC0 photographs; needs no network."""
    from reconpatch.data.demo import make_demo

    make_demo(folder, seed=seed)
    typer.echo(f"Demo data set in {folder}")


@app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help="a data set or one category of it")],
    params: Params = None,
    overrides: Overrides = None,
    docs: Annotated[Path | None, typer.Option("--docs", help="also write Data Docs (HTML) there")] = None,
    json_file: Json = None,
) -> None:
    """Report every problem of a data set at once; exit 1 when one is critical."""
    from reconpatch.integrations.expectations import check_dataset
    from reconpatch.settings import load_settings

    settings = load_settings(params, overrides or ())
    reports = check_dataset(folder, settings.data, settings.validate_, docs)
    for category, report in reports.items():
        for problem in report.problems:
            typer.echo(f"{problem.severity:8} {category}/{problem.path or ''}: {problem.reason}")
        verdict = "passed" if report.success else "FAILED"
        typer.echo(f"{category}: {report.images} images, {len(report.problems)} problems, {verdict}")
    write(json_file, {category: report.to_dict() for category, report in reports.items()})
    if not all(report.success for report in reports.values()):
        raise typer.Exit(1)
