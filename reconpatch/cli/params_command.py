"""`reconpatch params`: every parameter, its values, default and meaning."""

import difflib
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from reconpatch.cli.shared_options import Json, console, write
from reconpatch.errors import SettingsError


def params(
    name: Annotated[
        str | None, typer.Argument(help="a section, such as features, or a parameter; default: all")
    ] = None,
    json_file: Json = None,
) -> None:
    """List the parameters of params.yaml and `--set`, with their values, defaults and meaning."""
    from reconpatch.settings import list_sections, parameter_names
    from reconpatch.settings.parameter_table import yaml_value

    shown = [
        parameter
        for section in list_sections()
        for parameter in section.parameters
        if name in (None, section.name, parameter.name)
    ]
    if not shown:
        near = difflib.get_close_matches(name or "", parameter_names(), n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else "`reconpatch params` lists all"
        raise SettingsError(f"unknown parameter or section `{name}`; {hint}")
    table = Table("parameter", "values", "default", "meaning")
    for parameter in shown:
        table.add_row(parameter.name, parameter.values, yaml_value(parameter.default), parameter.description)
    console.print(table)
    write(json_file, [asdict(parameter) for parameter in shown])
