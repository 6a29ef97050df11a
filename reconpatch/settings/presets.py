"""Named sets of parameters that travel with the package: the paper's models and the offline ones."""

import difflib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import yaml

from reconpatch.errors import SettingsError

_FOLDER = files("reconpatch") / "presets"
_PAPER = "paper"


def preset_names() -> list[str]:
    """Every preset's name, sorted."""
    names = (entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml"))
    return sorted(name for name in names if name != _PAPER)


def read_preset(name: str) -> dict[str, Any]:
    """The sections that a preset states; what it leaves out stays as it is.

    Raises:
        SettingsError: there is no such preset.
    """
    known = preset_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"
        raise SettingsError(f"unknown preset `{name}`; {hint}")
    values: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return values


def describe_preset(name: str) -> str:
    """The first comment of the preset's file, one line."""
    first = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    return first.removeprefix("#").strip()


def paper_figures(name: str) -> Mapping[str, Any]:
    """What the paper reports for a preset, in percent; empty where it reports nothing.

    ``mean`` is [image AUROC, pixel AUROC] over the data set, ``image`` and ``pixel`` map categories.
    """
    figures: dict[str, Any] = yaml.safe_load((_FOLDER / f"{_PAPER}.yaml").read_text(encoding="utf-8"))
    found: dict[str, Any] = figures.get(name, {})
    return found


def merge(values: dict[str, Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with the preset's keys in place of its own, section by section."""
    merged = dict(values)
    for section, keys in preset.items():
        merged[section] = {**(merged.get(section) or {}), **keys}
    return merged
