"""Every parameter with its values, default and description, as the sections declare them."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from reconpatch.errors import SettingsError
from reconpatch.settings.all_parameters import Settings

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: full name, such as ``features.backbone``.
        values: which values it takes, such as ``none | image | patch`` or ``integer ≥ 1``.
        choices: the values where they are a list of words; otherwise empty.
        default: built-in default as JSON; params.yaml may state another value.
        description: one line.
    """

    name: str
    values: str
    choices: tuple[str, ...]
    default: Any
    description: str

    @property
    def key(self) -> str:
        """The name within its section."""
        return self.name.rpartition(".")[2]

    @property
    def text(self) -> str:
        """The choices, if any that the description does not name itself, and the description."""
        if all(choice in self.description for choice in self.choices):
            return self.description
        return f"{' | '.join(self.choices)}: {self.description}"


@dataclass(frozen=True)
class ParameterSection:
    """A section of params.yaml.

    Attributes:
        name: ``features`` and the like; empty for the parameters outside all sections.
        description: one line.
        parameters: in the order of params.yaml.
    """

    name: str
    description: str
    parameters: tuple[Parameter, ...]


@cache
def list_sections() -> tuple[ParameterSection, ...]:
    """All parameters, section by section; first those outside all sections."""
    schema = Settings.model_json_schema(by_alias=True)
    defaults = Settings().model_dump(mode="json", by_alias=True)
    top: list[Parameter] = []
    sections: list[ParameterSection] = []
    for name, field in schema["properties"].items():
        if "$ref" not in field:
            top.append(_parameter(name, field, defaults[name]))
            continue
        section = schema["$defs"][field["$ref"].rpartition("/")[2]]
        found = (
            _parameter(f"{name}.{key}", one, defaults[name][key])
            for key, one in section["properties"].items()
        )
        sections.append(ParameterSection(name, section["description"].replace("``", "`"), tuple(found)))
    return (ParameterSection("", "Parameters outside all sections.", tuple(top)), *sections)


def parameter_names() -> list[str]:
    """Every parameter's full name, such as ``features.backbone``, and every section's."""
    sections = list_sections()
    names = [section.name for section in sections if section.name]
    return names + [parameter.name for section in sections for parameter in section.parameters]


def describe(name: str) -> str:
    """The description of a parameter, for a command-line option that stands for it.

    Raises:
        SettingsError: there is no such parameter.
    """
    for section in list_sections():
        for parameter in section.parameters:
            if parameter.name == name:
                return parameter.text
    raise SettingsError(f"unknown parameter `{name}`; `reconpatch params` lists them")


def yaml_value(value: Any) -> str:
    """A value as params.yaml states it, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _parameter(name: str, field: dict[str, Any], default: Any) -> Parameter:
    choices = field.get("enum", ())
    return Parameter(name, _values(field), tuple(choices), default, field["description"])


def _values(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_values(one) for one in field["anyOf"])
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return " | ".join(field["enum"])
    kind = field["type"]
    if kind == "array":
        return f"list of {_values(field['items'])}"
    names = {"boolean": "true | false", "string": "text"}
    bounds = ", ".join(f"{sign} {field[key]:.10g}" for key, sign in _BOUNDS.items() if key in field)
    return f"{names.get(kind, kind)} {bounds}".strip()
