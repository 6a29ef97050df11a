"""A fitted detector on disk: JSON and safetensors, a digest of every file, checked on load.

    config.json           schema, kind, parameters, backbone reference, training-set digest, file digests
    head.safetensors      the modulation f (absent for plain PatchCore)
    bank.safetensors      the memory bank
    calibration.json      threshold and robust statistics of held-out nominal images
    held_out.parquet      these images' scores, statistics and embeddings, what drift is measured against
    region.json           what counts of an image (absent: all of it)
    training_set.json     content hashes and groups of the images of the fit, and of the held-out ones

Loading runs no code from the folder and unpickles nothing. `ensemble_folder` and `unified_folder` say what
the other kinds hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.held_out_images import read_held_out, write_held_out
from reconpatch.data.training_images import TrainingSet, union
from reconpatch.errors import ModelError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation, Identity, Modulation
from reconpatch.model.region import Region
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import atomic_folder, sha256_file, write_json
from reconpatch.storage.detector_config import (
    BANK,
    CALIBRATION,
    CATEGORIES,
    CONFIG,
    HEAD,
    HELD_OUT,
    MEMBERS,
    REGION,
    SCHEMA_VERSION,
    SINGLE,
    TRAINING_SET,
    UNIFIED,
    check_files,
    check_target,
    read_config,
)
from reconpatch.storage.detector_schema import BackboneReference, StoredRegion, json_values, read_stored
from reconpatch.storage.detector_settings import carry_weights, model_settings, read_model_settings


@dataclass(frozen=True)
class FittedParts:
    """Everything that a fit yields.

    Attributes:
        settings: the parameters it was fitted with.
        backbone: reference to the frozen network.
        modulation: f; the identity for plain PatchCore.
        bank: (M, dim) nominal patch vectors.
        calibration: nominal statistics and threshold, or None when nothing was held out.
        training_set: the nominal training images, held-out ones included.
        region: the region of interest; None: the whole image.
    """

    settings: Settings
    backbone: BackboneReference
    modulation: AnyModulation
    bank: MemoryBank
    calibration: Calibration | None
    training_set: TrainingSet
    region: Region | None = None


def write_model(folder: Path, parts: FittedParts) -> None:
    """Write a detector folder; it is complete or absent, and takes the place of an earlier detector only.

    Raises:
        ModelError: ``folder`` exists and is no detector; it is left as it is.
    """
    check_target(folder)
    with atomic_folder(folder) as temporary:
        files = [BANK, TRAINING_SET]
        parts.bank.save(temporary / BANK)
        write_json(temporary / TRAINING_SET, json_values(parts.training_set))
        if isinstance(parts.modulation, Modulation):
            parts.modulation.save(temporary / HEAD)
            files.append(HEAD)
        if parts.calibration is not None:
            files += write_calibration(temporary, parts.calibration)
        if parts.region is not None:
            write_json(temporary / REGION, parts.region.to_dict())
            files.append(REGION)
        carry_weights(temporary, parts.settings)
        config = {
            "schema_version": SCHEMA_VERSION,
            "kind": SINGLE,
            "settings": model_settings(parts.settings),
            "backbone": json_values(parts.backbone),
            "training_set_sha256": parts.training_set.sha256,
            "n_train": len(parts.training_set),
            "files": {name: sha256_file(temporary / name) for name in sorted(files)},
        }
        write_json(temporary / CONFIG, config)


def read_model(folder: Path) -> FittedParts:
    """Read a detector folder.

    Raises:
        ModelError: a file is missing, cut short or altered, or the schema is another one.
    """
    config = read_config(folder, SINGLE)
    check_files(folder, config)
    files = config["files"]
    bank = MemoryBank.load(folder / BANK)
    parts = FittedParts(
        read_model_settings(folder, config),
        BackboneReference(**config["backbone"]),
        read_modulation(folder, files, bank.dim),
        bank,
        read_calibration(folder, config) if CALIBRATION in files else None,
        read_training_set(folder),
    )
    if REGION in files:
        parts = replace(parts, region=read_region_file(folder, parts.settings))
    check_width(folder, parts.modulation, parts.bank)
    return parts


def read_modulation(folder: Path, files: Mapping[str, str], width: int) -> AnyModulation:
    """f, or the identity for vectors of ``width`` where the detector is plain PatchCore.

    Raises:
        ModelError: the file does not hold a modulation.
    """
    return Modulation.load(folder / HEAD) if HEAD in files else Identity(width)


def check_width(folder: Path, modulation: AnyModulation, bank: MemoryBank) -> None:
    """Refuse a bank of other vectors than f gives.

    Raises:
        ModelError: the widths differ.
    """
    if modulation.dim != bank.dim:
        raise ModelError(
            f"{folder / HEAD}: gives vectors of {modulation.dim} and the memory bank has {bank.dim}; "
            "the folder was put together from two detectors, fit it again"
        )


def write_calibration(folder: Path, calibration: Calibration) -> list[str]:
    """Write calibration.json and, where there are held-out images, held_out.parquet; the files' names."""
    write_json(folder / CALIBRATION, json_values(calibration))
    if calibration.held_out is None:
        return [CALIBRATION]
    write_held_out(folder / HELD_OUT, calibration.held_out)
    return [CALIBRATION, HELD_OUT]


def read_calibration(folder: Path, config: Mapping[str, Any]) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        ModelError: it does not hold a calibration.
    """
    held_out = read_held_out(folder / HELD_OUT) if HELD_OUT in config["files"] else None
    return replace(read_stored(folder / CALIBRATION, Calibration), held_out=held_out)


def read_region_file(folder: Path, settings: Settings) -> Region:
    """Read region.json.

    Raises:
        ModelError: it does not hold a region for images of the detector's size.
    """
    path = folder / REGION
    stored = read_stored(path, StoredRegion)
    if stored.side != settings.features.image_size:
        raise ModelError(
            f"{path}: is for images of {stored.side} pixels a side, the detector's have "
            f"{settings.features.image_size}; fit it again"
        )
    try:
        return Region.from_dict(stored.model_dump())
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def lineage_of(members: Sequence[FittedParts]) -> dict[str, str]:
    """What the report says of a detector's origin."""
    training = members[0].training_set
    weights = (f"{one.backbone.weights_source}, sha256 {one.backbone.weights_sha256}" for one in members)
    banks = (f"{len(one.bank)} vectors of {one.bank.dim}" for one in members)
    features, region = members[0].settings.features, members[0].region
    tiles = "" if features.tile is None else f" in tiles of {features.tile}, {features.tile_overlap} shared"
    return {
        "backbone": " + ".join(one.backbone.name for one in members),
        "weights": "; ".join(weights),
        "training images": f"{len(training)}, sha256 {training.sha256}",
        "memory bank": "; ".join(banks),
        "image": f"{features.image_size} x {features.image_size} pixels{tiles}",
        "region of interest": "all of it" if region is None else f"{100 * region.share:.1f} % of it",
    }


def member_folders(folder: Path) -> list[Path]:
    """The folders of an ensemble's members, in order; of another detector its own."""
    members = (path for path in (folder / MEMBERS).glob("*/") if path.name.isdecimal())
    return sorted(members, key=lambda path: int(path.name)) or [folder]


def read_training_set(folder: Path) -> TrainingSet:
    """The images that the detector in ``folder`` was made of; of a unified model those of all categories.

    The members of an ensemble were made of the same ones.

    Raises:
        ModelError: the folder holds no detector.
    """
    if (folder / CATEGORIES).is_dir():
        names = read_config(folder, UNIFIED).get("categories", ())
        return union({name: read_training_set(folder / CATEGORIES / str(i)) for i, name in enumerate(names)})
    return read_stored(member_folders(folder)[0] / TRAINING_SET, TrainingSet)
