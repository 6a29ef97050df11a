"""config.json of a detector folder, and the folder's other files: their names, and the digests it holds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import sha256_file
from reconpatch.storage.detector_schema import StoredConfig, StoredVersion, read_stored

SCHEMA_VERSION = 2
CONFIG, HEAD, BANK, CALIBRATION = "config.json", "head.safetensors", "bank.safetensors", "calibration.json"
TRAINING_SET, HELD_OUT, REGION = "training_set.json", "held_out.parquet", "region.json"
WEIGHTS = "weights"  # folder of weights that came from a local file and travel along
MEMBERS, CATEGORIES = "members", "categories"  # folders of an ensemble and of a unified model
Kind = Literal["single", "unified", "ensemble"]
SINGLE: Kind = "single"
UNIFIED: Kind = "unified"
ENSEMBLE: Kind = "ensemble"
# The files of its own that a kind cannot do without.
_NEEDED: dict[str, dict[str, str]] = {
    SINGLE: {BANK: "memory bank", TRAINING_SET: "training set"},
    ENSEMBLE: {CALIBRATION: "calibration"},
    UNIFIED: {},
}
_OWN = "|".join(map(re.escape, (CONFIG, HEAD, BANK, CALIBRATION, TRAINING_SET, HELD_OUT, REGION)))
_FILE = re.compile(rf"(?:(?:{MEMBERS}|{CATEGORIES})/[0-9]{{1,6}}/)?(?:{_OWN})")


def check_target(folder: Path) -> None:
    """Refuse to write a detector over anything but nothing, an empty folder or an earlier detector.

    Raises:
        ModelError: ``folder`` is a file, or a folder with other content.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    known = folder.is_dir() and (folder / CONFIG).is_file()
    if not known or not ((folder / BANK).is_file() or read_config(folder)["kind"] != SINGLE):
        raise ModelError(
            f"{folder}: exists and is no detector folder; choose another name, nothing was changed"
        )


def read_config(folder: Path, kind: Kind | None = None) -> dict[str, Any]:
    """Read config.json: the values of `StoredConfig` but those that it lacks.

    Args:
        folder: of a detector.
        kind: that it must be of; None: any.

    Raises:
        ModelError: no detector folder, not such values, another kind or another schema version.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: is not a folder; name one that `reconpatch fit --out` wrote")
    path = folder / CONFIG
    version = read_stored(path, StoredVersion).schema_version
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"{path}: has schema version {version}, this reconpatch reads {SCHEMA_VERSION}; "
            "fit the detector again or install the version that wrote it"
        )
    config = read_stored(path, StoredConfig).model_dump(exclude_none=True)
    if kind not in (None, config["kind"]):
        raise ModelError(
            f"{path}: is of the kind {config['kind']}, not {kind}; `reconpatch.load` reads "
            f"every kind, and only the kind {SINGLE} can be updated"
        )
    for name in config["files"]:
        if not _FILE.fullmatch(name):
            raise ModelError(
                f"{path}: names {name[:200]}, which is not a file of a detector; fit the detector again"
            )
    for name, what in _NEEDED[config["kind"]].items():
        if name not in config["files"]:
            raise ModelError(f"{path}: names no {what}; fit the detector again")
    return config


def check_files(folder: Path, config: Mapping[str, Any]) -> None:
    """Compare the files that a config names with their digests.

    Raises:
        ModelError: one is missing, cut short or altered, not a regular file, or lies in another folder.
    """
    root = folder.resolve()
    for name, digest in config["files"].items():
        path = folder / name
        try:
            if not path.resolve().is_relative_to(root):
                raise ModelError(
                    f"{folder / CONFIG}: names {name}, which lies elsewhere; fit the detector again"
                )
            found = sha256_file(path)
        except FileNotFoundError:
            raise ModelError(
                f"{path}: is missing; the detector folder is incomplete, fit or copy it again"
            ) from None
        except (OSError, RuntimeError) as error:  # the latter: links that lead in a circle
            raise ModelError(f"{path}: cannot be read ({error}); fit or copy the detector again") from None
        if found != digest:
            raise ModelError(f"{path}: was cut short or altered since it was written; fit or copy it again")
