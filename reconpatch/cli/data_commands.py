"""`reconpatch data ...`: image sets."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reconpatch.cli.shared_options import Json, Overrides, Params, count, write
from reconpatch.data.layouts.layout_registry import LAYOUT_HELP
from reconpatch.data.public_sets.catalogue import PUBLIC_SETS

if TYPE_CHECKING:
    from reconpatch.integrations.check_report import CheckReport

app = typer.Typer(no_args_is_help=True, help="Image sets: fetch one, make one, check one.")


@app.command("demo")
def data_demo(
    folder: Annotated[Path, typer.Argument(help="where the data set is written")],
    seed: Annotated[int, typer.Option(help="seed of the generator")] = 0,
) -> None:
    """Build the demo set from real CC0 photographs; needs no network."""
    from reconpatch.data.demo import make_demo

    make_demo(folder, seed=seed)
    typer.echo(f"Demo data set in {folder}")


@app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help=" or ".join(PUBLIC_SETS))],
    out: Annotated[Path | None, typer.Option("--out", help="folder to write; default: data/NAME")] = None,
    url: Annotated[str | None, typer.Option("--url", help="address of the archive, such as a mirror")] = None,
    archive: Annotated[Path | None, typer.Option("--archive", help="the archive, where you have it")] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="of an archive other than the known one")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="of the archive in bytes")] = None,
    cache: Annotated[Path, typer.Option(help="where a download is kept until it is unpacked")] = Path(
        ".cache/downloads"
    ),
) -> None:
    """Fetch a public data set; a download that broke off goes on. Mind its licence, which is shown."""
    from reconpatch.data.public_sets.public_dataset import fetch_dataset

    source = PUBLIC_SETS.get(name)
    if source is None:
        raise typer.BadParameter(
            f"{name} is unknown; choose one of {', '.join(PUBLIC_SETS)}", param_hint="NAME"
        )
    if url is not None and archive is not None:
        raise typer.BadParameter("give either --url or --archive", param_hint="--url")
    typer.echo(f"{source.title}. Licence: {source.licence}. Cite: {source.citation}")
    fetched = fetch_dataset(
        archive or url or source.url,
        out or Path("data") / name,
        cache=cache,
        sha256=(sha256 or source.sha256).lower(),
        size=size or source.size,
    )
    typer.echo(f"{fetched.root}: {fetched.files} files, categories {', '.join(fetched.categories)}")
    typer.echo(f"Next: reconpatch data check {fetched.root}; reconpatch init {fetched.root}")


@app.command("check")
def data_check(
    folder: Annotated[Path, typer.Argument(help=f"a data set or one category of it; layouts: {LAYOUT_HELP}")],
    params: Params = None,
    overrides: Overrides = None,
    docs: Annotated[Path | None, typer.Option("--docs", help="also write Data Docs (HTML) there")] = None,
    json_file: Json = None,
) -> None:
    """Report every problem of a data set at once; exit 1 when one is critical."""
    from reconpatch.calibration.promise import promise_line
    from reconpatch.data.layouts import category_roots
    from reconpatch.integrations.data_checks import check_dataset
    from reconpatch.settings import load_settings

    settings = load_settings(params, overrides or ())
    roots = category_roots(folder)
    reports = check_dataset(folder, settings.data, settings.validate_, docs)
    for category, root in roots.items():
        # What must be mended first promises nothing yet.
        if reports[category].success and (line := promise_line(category, root, settings)) is not None:
            typer.echo(line)
    show_reports(reports)
    write(json_file, {category: report.to_dict() for category, report in reports.items()})
    if not all(report.success for report in reports.values()):
        raise typer.Exit(1)


def show_reports(reports: "Mapping[str, CheckReport]") -> None:
    """Print every problem of every category, and each category's verdict."""
    for category, report in reports.items():
        for problem in report.problems:
            typer.echo(f"{problem.severity:8} {category}/{problem.path or ''}: {problem.reason}")
        verdict = "passed" if report.success else "FAILED"
        found = f"{count(report.images, 'image')}, {count(len(report.problems), 'problem')}"
        typer.echo(f"{category}: {found}, {verdict}")
