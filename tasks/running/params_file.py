"""``python -m tasks.running.params_file`` writes the comments of params.yaml, and docs/parameters.md.

Run it after a change of a parameter. The values that params.yaml states stay; comments, order and new
parameters come from the sections in reconpatch/settings/.
"""

import textwrap
from typing import Any

from reconpatch.settings.all_parameters import Settings
from reconpatch.settings.parameter_table import Parameter, list_sections, yaml_value
from reconpatch.settings.parsing import load_settings
from reconpatch.storage.atomic_files import atomic_file
from tasks.running.stage_folders import PARAMS, PROJECT

PAGE = "docs/parameters.md"
_WIDTH = 120
_HEAD = """\
# Every parameter of the library and the pipeline. An unknown key is an error. Overrides
# (`--set section.key=value`) run in runs/<digest>/. Change values here; the comments come from the
# descriptions in reconpatch/settings/ by `python -m tasks.running.params_file`.
"""
_PAGE_HEAD = """\
# Parameters

Written by `python -m tasks.running.params_file`; do not edit it by hand. The defaults are those of the
library without a params file. [params.yaml](../params.yaml) states a value for every parameter, and
`--set section.key=value` overrides it for one command. `reconpatch params [SECTION]` prints these tables.
"""


def params_text(settings: Settings) -> str:
    """The text of a params file that states all values of ``settings``, each with its description."""
    values = settings.model_dump(mode="json", by_alias=True)
    blocks = [_HEAD]
    for section in list_sections():
        lines = []
        if section.name:
            lines.append(f"{section.name}:  # {section.description}")
        stated = values[section.name] if section.name else values
        for parameter in section.parameters:
            lines += _lines(parameter, stated[parameter.key], "  " if section.name else "")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def parameters_page() -> str:
    """The text of docs/parameters.md: a table for each section."""
    blocks = [_PAGE_HEAD]
    for section in list_sections():
        title = (
            f"## `{section.name}`\n\n{section.description}\n" if section.name else "## Outside all sections\n"
        )
        rows = ["| parameter | values | default | meaning |", "|---|---|---|---|"]
        for one in section.parameters:
            cells = (f"`{one.key}`", one.values, f"`{yaml_value(one.default)}`", one.description)
            rows.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
        blocks.append(f"{title}\n" + "\n".join(rows) + "\n")
    return "\n".join(blocks)


def _lines(parameter: Parameter, value: Any, indent: str) -> list[str]:
    stated = f"{indent}{parameter.key}: {yaml_value(value)}"
    beside = f"{stated}  # {parameter.text}"
    if len(beside) <= _WIDTH:
        return [beside]
    prefix = f"{indent}# "
    return [*textwrap.wrap(parameter.text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix), stated]


if __name__ == "__main__":
    for path, text in (
        (PROJECT / PARAMS, params_text(load_settings(PROJECT / PARAMS))),
        (PROJECT / PAGE, parameters_page()),
    ):
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
