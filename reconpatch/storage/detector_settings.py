"""The parameters that a detector folder keeps, and the backbone's weights where they travel with it."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconpatch.errors import ModelError, SettingsError
from reconpatch.settings import Settings, parse_settings
from reconpatch.storage.detector_config import CONFIG, WEIGHTS

# What makes a detector; what belongs to a run or a machine does not: equal detectors are equal bytes. One
# thing of the machine stays: where weights lie that do not travel, or nobody would find them.
_OF_THE_MODEL = {"seed", "data", "features", "modulation", "coreset", "scoring", "calibrate"}


def model_settings(settings: Settings) -> dict[str, Any]:
    """The parameters that belong to the detector, as JSON values; of weights that travel the file's name."""
    values = settings.model_dump(mode="json", by_alias=True, include=_OF_THE_MODEL)
    weights = _travelling(settings)
    if weights is not None:
        values["features"]["weights"] = weights.name
    return values


def add_weights(folder: Path, file: Path) -> None:
    """Let the backbone's weights, which came from a local file, travel with the detector."""
    (folder / WEIGHTS).mkdir()
    shutil.copyfile(file, folder / WEIGHTS / file.name)


def carry_weights(folder: Path, settings: Settings) -> None:
    """Let weights that travelled with a detector so far travel on."""
    weights = _travelling(settings)
    if weights is not None:
        add_weights(folder, weights)


def _travelling(settings: Settings) -> Path | None:
    """The file of weights that lies in a detector's folder."""
    weights = settings.features.weights
    travels = weights is not None and weights.parent.name == WEIGHTS and _is_file(weights)
    return weights if travels else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long for the disk
        return False


def read_settings(folder: Path, config: Mapping[str, Any]) -> Settings:
    """The parameters in a config; weights that travel with the detector go before a path they once lay at.

    Raises:
        SettingsError: they are no parameters of this version.
        KeyError: the config holds none.
    """
    settings = parse_settings(config["settings"], source=str(folder / CONFIG))
    named = settings.features.weights
    if named is None or not _is_file(folder / WEIGHTS / named.name):
        return settings
    features = settings.features.model_copy(update={"weights": folder / WEIGHTS / named.name})
    return settings.model_copy(update={"features": features})


def read_model_settings(folder: Path, config: Mapping[str, Any]) -> Settings:
    """As `read_settings`, for who loads a detector.

    Raises:
        ModelError: they are no parameters of this version.
    """
    try:
        return read_settings(folder, config)
    except SettingsError as error:
        raise ModelError(f"{error}; the detector was written by another version of reconpatch") from None
