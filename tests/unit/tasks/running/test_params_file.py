"""A parameter's text stands once: params.yaml, the page and the command line show that of its section."""

from pathlib import Path

import pytest
import yaml

from reconpatch.errors import SettingsError
from reconpatch.settings import describe, list_sections, load_settings
from reconpatch.settings.parameter_table import yaml_value
from tasks.running.params_file import PAGE, parameters_page, params_text
from tasks.running.stage_folders import PARAMS, PROJECT

_WRITE = "run: python -m tasks.running.params_file"
_ALL = [parameter for section in list_sections() for parameter in section.parameters]


def test_params_yaml_is_up_to_date() -> None:
    path = PROJECT / PARAMS
    assert path.read_text(encoding="utf-8") == params_text(load_settings(path)), _WRITE


def test_the_page_is_up_to_date() -> None:
    assert (PROJECT / PAGE).read_text(encoding="utf-8") == parameters_page(), _WRITE


def test_values_of_a_params_file_stay_and_every_one_is_stated(tmp_path: Path) -> None:
    changed = load_settings(
        overrides={
            "threads": 3,
            "features.weights": "weights/ü #1: a.safetensors",
            "pipeline.categories": ["01", "1_0", "on"],
            "modulation.learning_rate": 1e-7,
            "retrain.webhook": "https://host/a b",
        }
    )
    path = tmp_path / "params.yaml"
    path.write_text(params_text(changed), encoding="utf-8")
    assert load_settings(path) == changed
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert stated == changed.model_dump(mode="json", by_alias=True)


def test_no_line_of_params_yaml_is_too_long_to_read() -> None:
    lines = params_text(load_settings()).splitlines()
    assert max(map(len, lines)) <= 120
    keys = [line.split(":")[0].strip() for line in lines if line and not line.lstrip().startswith("#")]
    assert len(keys) == len(_ALL) + len(list_sections()) - 1


@pytest.mark.parametrize("parameter", _ALL, ids=lambda parameter: parameter.name)
def test_every_parameter_says_what_it_is(parameter) -> None:
    assert parameter.description
    assert not parameter.description.endswith(".")
    assert "None" not in parameter.description
    assert "so many" not in parameter.description
    # On the command line the choices are shown, named by the description or before it.
    assert all(choice in describe(parameter.name) for choice in parameter.choices)


def test_values_and_defaults_come_from_the_declaration() -> None:
    known = {parameter.name: parameter for parameter in _ALL}
    assert known["coreset.ratio"].values == "number > 0, ≤ 1"
    assert known["features.tile"].values == "integer ≥ 32 or null"
    assert known["pipeline.fuse"].values == "list of modified_z"
    assert known["scoring.reweighting"].choices == ("none", "image", "patch")
    assert known["data.layout"].choices[0] == "auto"
    assert yaml_value(known["features.levels"].default) == "[2, 3]"
    assert yaml_value(known["features.tile"].default) == "null"


def test_an_unknown_parameter_has_no_text() -> None:
    with pytest.raises(SettingsError, match=r"features\.tiles"):
        describe("features.tiles")
