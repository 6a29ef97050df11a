"""An ensemble on disk: the members' detector folders in one, with the calibration of their mean.

config.json           schema, kind "ensemble", backbones, training-set digest, digest of every file
calibration.json      threshold and robust statistics of the mean on the held-out images
held_out.parquet      these images with their fused scores, as a single detector's
members/0, 1, ...     complete detector folders, as `model_folder` writes them
"""

from collections.abc import Sequence
from pathlib import Path

from reconpatch.calibration.calibration import Calibration
from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import atomic_folder, sha256_file, sha256_json, write_json
from reconpatch.storage.detector_config import (
    CONFIG,
    ENSEMBLE,
    MEMBERS,
    SCHEMA_VERSION,
    check_files,
    check_target,
    read_config,
)
from reconpatch.storage.detector_folder import (
    FittedParts,
    read_calibration,
    read_model,
    write_calibration,
    write_model,
)
from reconpatch.storage.detector_settings import model_settings


def write_ensemble(folder: Path, members: Sequence[FittedParts], calibration: Calibration) -> None:
    """Write an ensemble; it is complete or absent, and takes the place of an earlier detector only.

    Raises:
        ModelError: ``folder`` exists and is no detector; it is left as it is.
    """
    check_target(folder)
    names = [f"{MEMBERS}/{number}" for number in range(len(members))]
    with atomic_folder(folder) as temporary:
        (temporary / MEMBERS).mkdir()
        for name, parts in zip(names, members, strict=True):
            write_model(temporary / name, parts)
        # The digest of a member's config covers the rest of its files, which it names with theirs.
        files = [*write_calibration(temporary, calibration), *(f"{name}/{CONFIG}" for name in names)]
        first = members[0]
        config = {
            "schema_version": SCHEMA_VERSION,
            "kind": ENSEMBLE,
            "settings": model_settings(first.settings),
            "backbone": {
                "name": "+".join(parts.backbone.name for parts in members),
                "weights_sha256": sha256_json([parts.backbone.weights_sha256 for parts in members]),
                "weights_source": ", ".join(parts.backbone.weights_source for parts in members),
            },
            "members": names,
            "training_set_sha256": first.training_set.sha256,
            "n_train": len(first.training_set),
            "files": {name: sha256_file(temporary / name) for name in sorted(files)},
        }
        write_json(temporary / CONFIG, config)


def read_ensemble(folder: Path) -> tuple[list[FittedParts], Calibration]:
    """Read the members and the calibration of their mean.

    Raises:
        ModelError: a file of it or of a member is missing, cut short or altered.
    """
    config = read_config(folder, ENSEMBLE)
    check_files(folder, config)
    names = config.get("members", [])
    if len(names) < 2 or names != [f"{MEMBERS}/{number}" for number in range(len(names))]:
        raise ModelError(f"{folder / CONFIG}: names no members; fit the ensemble again")
    if missing := [name for name in names if f"{name}/{CONFIG}" not in config["files"]]:
        raise ModelError(f"{folder / CONFIG}: has no digest of {missing[0]}; fit the ensemble again")
    return [read_model(folder / name) for name in names], read_calibration(folder, config)
