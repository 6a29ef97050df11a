"""`reconpatch presets`: named sets of parameters."""

from rich.table import Table

from reconpatch.cli.shared_options import console


def presets() -> None:
    """List the presets for `--preset`."""
    from reconpatch.settings import describe_preset, preset_names

    table = Table("preset", "what it is")
    for name in preset_names():
        table.add_row(name, describe_preset(name))
    console.print(table)
