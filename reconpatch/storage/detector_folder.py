"""A fitted detector on disk: JSON and safetensors, a digest of every file, checked on load.

    config.json           schema, kind, parameters, backbone reference, training-set digest, file digests
    head.safetensors      the modulation f (absent for plain PatchCore)
    bank.safetensors      the memory bank
    calibration.json      threshold and robust statistics of held-out nominal images
    held_out.parquet      these images' scores, statistics and embeddings, what drift is measured against
    region.json           what counts of an image (absent: all of it)
    training_set.json     content hashes and groups of the images of the fit, and of the held-out ones

Loading runs no code from the folder and unpickles nothing. `ensemble_folder` and `unified.folder` say what
the other kinds hold.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.held_out_images import read_held_out, write_held_out
from reconpatch.data.training_images import TrainingSet, union
from reconpatch.errors import ModelError, SettingsError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation, Identity, Modulation
from reconpatch.model.region import Region
from reconpatch.settings import Settings, parse_settings
from reconpatch.storage.atomic_files import atomic_folder, sha256_file, write_json
from reconpatch.storage.detector_schema import (
    StoredCalibration,
    StoredConfig,
    StoredRegion,
    StoredTrainingSet,
    StoredVersion,
    read_stored,
)

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

# What makes a detector; what belongs to a run or a machine does not: equal detectors are equal bytes. One
# thing of the machine stays: where weights lie that do not travel, or nobody would find them.
_OF_THE_MODEL = {"seed", "data", "features", "modulation", "coreset", "scoring", "calibrate"}


@dataclass(frozen=True)
class BackboneReference:
    """Which weights the patch features came from.

    Attributes:
        name: timm model name.
        weights_sha256: digest of the weights; loading with other weights is refused.
        weights_source: where they came from, for people (a package, a file's name, the hub).
    """

    name: str
    weights_sha256: str
    weights_source: str


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
        region: what counts of an image, or None when all of it does.
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
        write_json(temporary / TRAINING_SET, asdict(parts.training_set))
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
            "backbone": asdict(parts.backbone),
            "training_set_sha256": parts.training_set.sha256,
            "n_train": len(parts.training_set),
            "files": {name: sha256_file(temporary / name) for name in sorted(files)},
        }
        write_json(temporary / CONFIG, config)


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


def read_model_settings(folder: Path, config: Mapping[str, Any]) -> Settings:
    """As `read_settings`, for who loads a detector.

    Raises:
        ModelError: they are no parameters of this version.
    """
    try:
        return read_settings(folder, config)
    except SettingsError as error:
        raise ModelError(f"{error}; the detector was written by another version of reconpatch") from None


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
        raise ModelError(f"{path}: is of the kind {config['kind']}, not {kind}; fit the detector again")
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


def write_calibration(folder: Path, calibration: Calibration) -> list[str]:
    """Write calibration.json and, where there are held-out images, held_out.parquet; the files' names."""
    write_json(folder / CALIBRATION, calibration.to_dict())
    if calibration.held_out is None:
        return [CALIBRATION]
    write_held_out(folder / HELD_OUT, calibration.held_out)
    return [CALIBRATION, HELD_OUT]


def read_calibration(folder: Path, config: Mapping[str, Any]) -> Calibration:
    """Read what `write_calibration` wrote.

    Raises:
        ModelError: it does not hold a calibration.
    """
    path = folder / CALIBRATION
    held_out = read_held_out(folder / HELD_OUT) if HELD_OUT in config["files"] else None
    stored = read_stored(path, StoredCalibration)
    try:
        return replace(Calibration.from_dict(stored.model_dump()), held_out=held_out)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


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


def model_settings(settings: Settings) -> dict[str, Any]:
    """The parameters that belong to the detector, as JSON values; of weights that travel the file's name."""
    values = settings.model_dump(mode="json", by_alias=True, include=_OF_THE_MODEL)
    weights = _travelling(settings)
    if weights is not None:
        values["features"]["weights"] = weights.name
    return values


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
    path = member_folders(folder)[0] / TRAINING_SET
    stored = read_stored(path, StoredTrainingSet)
    for images, groups in ((stored.fit, stored.fit_groups), (stored.holdout, stored.holdout_groups)):
        if groups and len(groups) != len(images):
            raise ModelError(
                f"{path}: has {len(images)} images and {len(groups)} groups; fit or copy the detector again"
            )
    return TrainingSet(
        tuple(stored.fit),
        tuple(stored.holdout),
        stored.updates,
        tuple(stored.fit_groups),
        tuple(stored.holdout_groups),
    )
