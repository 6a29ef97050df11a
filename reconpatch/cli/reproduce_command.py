"""`reconpatch reproduce`: a preset on a data set, beside the paper's figures."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from reconpatch.cli.shared_options import Json, Overrides, Params, console, write


def reproduce(
    preset: Annotated[str, typer.Argument(help="name of a preset; `reconpatch presets` lists them")],
    root: Annotated[Path, typer.Argument(help="folder of categories, such as data/mvtec")],
    out: Annotated[Path, typer.Option("--out", help="folder of the figures; a second call goes on there")],
    categories: Annotated[
        list[str] | None, typer.Option("--category", help="one of the categories, repeatable; default: all")
    ] = None,
    params: Params = None,
    overrides: Overrides = None,
    cache: Annotated[Path | None, typer.Option(help="folder of the feature cache")] = None,
    json_file: Json = None,
) -> None:
    """Fit and evaluate a preset on every category; the paper's figures stand beside ours."""
    from reconpatch.evaluation.paper_comparison import METRICS, Row
    from reconpatch.evaluation.paper_comparison import reproduce as run
    from reconpatch.settings import load_settings

    def report(row: Row) -> None:
        console.print(f"{row.category}: " + ", ".join(map(_number, row.ours)))

    settings = load_settings(params, overrides or (), preset=preset)
    rows = run(root, settings, out, preset=preset, categories=categories, cache=cache, report=report)
    heads = ("image AUROC", "paper", "pixel AUROC", "paper", "AUPRO")
    table = Table("category", *heads, title=f"{preset} on {root.resolve().name}")
    for row in rows:
        image, pixel, aupro = (_number(value) for value in row.ours)
        table.add_row(row.category, image, _number(row.paper[0]), pixel, _number(row.paper[1]), aupro)
    console.print(table)
    write(json_file, {"preset": preset, "metrics": METRICS, "rows": [asdict(row) for row in rows]})


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
