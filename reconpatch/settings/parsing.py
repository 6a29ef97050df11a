"""From params files and overrides to settings; every wrong key or value is named at once."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from reconpatch.errors import SettingsError
from reconpatch.settings.all_parameters import Settings
from reconpatch.settings.parameter_table import parameter_names
from reconpatch.settings.presets import merge, read_preset

_SHOWN = 20  # problems that a message names; a stranger's file may have a million


def parse_settings(values: Mapping[str, Any], *, source: str = "settings") -> Settings:
    """Parse nested mappings into frozen settings.

    Args:
        values: sections and keys as in params.yaml.
        source: the file's name, for messages.

    Raises:
        SettingsError: with the wrong keys and values, twenty at most, and a suggestion for each unknown key.
    """
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        problems = [_explain(dict(item)) for item in error.errors()[:_SHOWN]]
        if error.error_count() > _SHOWN:
            problems.append(f"and {error.error_count() - _SHOWN} more")
        raise SettingsError(f"{source}: " + "; ".join(problems)) from None


def load_settings(
    path: Path | None = None,
    overrides: Iterable[str] | Mapping[str, Any] = (),
    *,
    base: Settings | None = None,
    preset: str | None = None,
) -> Settings:
    """Read a params file (None: ``base`` or the defaults) and apply a preset, then overrides.

    Args:
        path: a params file.
        overrides: ``section.key=value`` texts, or values by full parameter name.
        base: what to start from when there is no params file.
        preset: name of a preset; what it states goes before the params file.

    Raises:
        SettingsError: the file is missing, not UTF-8 or no YAML mapping, there is no such preset, or a key
            or value is wrong.
    """
    values: dict[str, Any] = base.model_dump(mode="json", by_alias=True) if base is not None else {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise SettingsError(
                f"{path}: cannot be read ({error.strerror}); give an existing params file"
            ) from None
        except UnicodeDecodeError as error:
            raise SettingsError(
                f"{path}: is not UTF-8 (byte {error.start + 1} is 0x{error.object[error.start]:02x}); "
                "save it in the encoding UTF-8"
            ) from None
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: is not valid YAML: {error}") from None
        if not isinstance(values, dict):
            raise SettingsError(
                f"{path}: must hold sections such as `features:`, not {type(values).__name__}"
            )
    if preset is not None:
        values = merge(values, read_preset(preset))
    sources = [str(path)] if path else []
    if isinstance(overrides, Mapping):
        named = list(overrides.items())
    else:
        named = list(map(_parse_override, overrides))
        sources += [f"--set {', '.join(name for name, _ in named)}"] if named else []
    for name, value in named:
        _set(values, name, value)
    return parse_settings(values, source=" with ".join(sources) or "settings")


def _parse_override(override: str) -> tuple[str, Any]:
    name, separator, text = override.partition("=")
    if not separator or not name.strip():
        raise SettingsError(f"--set {override}: must read section.key=value")
    try:
        return name.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingsError(f"--set {override}: the value is not valid YAML") from None


def _set(values: dict[str, Any], name: str, value: Any) -> None:
    *sections, key = name.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise SettingsError(f"{name}: `{section}` is a value, not a section")
    place[key] = value


def _explain(item: dict[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] != "extra_forbidden":
        # What concerns several sections names its parameters itself.
        return (f"{name}: " if name else "") + str(item["msg"]).removeprefix("Value error, ")
    known = parameter_names()
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    near = near or [full for full in known if full.split(".")[-1] == location[-1]][:1]
    return f"unknown parameter `{name}`" + (f"; did you mean `{near[0]}`?" if near else "")
