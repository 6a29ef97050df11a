"""A unified model on disk; what is shared lies there once.

config.json           schema, kind "unified", names of the categories, parameters, digest of every file
head.safetensors      f (absent for plain PatchCore)
bank.safetensors      the bank of all categories, where `unified.bank` is shared
calibration.json      for images whose category is not known
weights/              those of the backbone, where they came from a local file and travel along
categories/0, 1, ...  training_set.json, calibration.json, held_out.parquet; bank.safetensors and region.json
                      where it has its own
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconpatch.errors import ModelError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Modulation
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import atomic_folder, sha256_file, write_json
from reconpatch.storage.detector_config import (
    BANK,
    CALIBRATION,
    CATEGORIES,
    CONFIG,
    HEAD,
    REGION,
    SCHEMA_VERSION,
    TRAINING_SET,
    UNIFIED,
    check_files,
    check_target,
    read_config,
)
from reconpatch.storage.detector_folder import (
    check_width,
    read_calibration,
    read_modulation,
    read_region_file,
    read_training_set,
    write_calibration,
)
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.storage.detector_settings import carry_weights, model_settings, read_model_settings
from reconpatch.unified.unified_parts import CategoryParts, UnifiedParts, together


def write_unified(folder: Path, parts: UnifiedParts) -> None:
    """Write a unified model; it is complete or absent, and takes the place of an earlier detector only.

    Raises:
        ModelError: ``folder`` exists and is no detector; it is left as it is.
    """
    check_target(folder)
    known = parts.pooled.training_set
    with atomic_folder(folder) as temporary:
        files = sorted(_write_parts(temporary, parts))
        carry_weights(temporary, parts.settings)
        config = {
            "schema_version": SCHEMA_VERSION,
            "kind": UNIFIED,
            "categories": list(parts.categories),
            "settings": _settings_of(parts.settings),
            "backbone": asdict(parts.backbone),
            "training_set_sha256": known.sha256,
            "n_train": len(known),
            "files": {name: sha256_file(temporary / name) for name in files},
        }
        write_json(temporary / CONFIG, config)


def read_unified(folder: Path) -> UnifiedParts:
    """Read a unified model.

    Raises:
        ModelError: a file is missing, cut short or altered, or the schema is another one.
    """
    config = read_config(folder, UNIFIED)
    check_files(folder, config)
    files, names = config["files"], config.get("categories", [])
    if not names or len(set(names)) != len(names):
        raise ModelError(
            f"{folder / CONFIG}: does not describe a unified model (it names no categories, or one twice); "
            "fit it again"
        )
    settings = read_model_settings(folder, config)
    shared = None
    if settings.unified.bank == "shared":
        _demand(folder, BANK, files)
        shared = MemoryBank.load(folder / BANK)
    categories = {
        name: _read_category(folder, f"{CATEGORIES}/{i}", shared, files, settings)
        for i, name in enumerate(names)
    }
    banks = [one.bank for one in categories.values()]
    if len({bank.dim for bank in banks}) > 1:
        raise ModelError(f"{folder}: the categories' memory banks differ in width; fit it again")
    modulation = read_modulation(folder, files, banks[0].dim)
    check_width(folder, modulation, banks[0])
    return UnifiedParts(
        settings,
        BackboneReference(**config["backbone"]),
        modulation,
        together(banks) if shared is None else shared,
        read_calibration(folder, config) if CALIBRATION in files else None,
        categories,
    )


def _settings_of(settings: Settings) -> dict[str, Any]:
    return model_settings(settings) | {"unified": settings.unified.model_dump(mode="json")}


def _write_parts(folder: Path, parts: UnifiedParts) -> Iterator[str]:
    """Write everything but the config; yields the names."""
    shared = parts.settings.unified.bank == "shared"
    if isinstance(parts.modulation, Modulation):
        parts.modulation.save(folder / HEAD)
        yield HEAD
    if shared:
        parts.bank.save(folder / BANK)
        yield BANK
    if parts.calibration is not None:
        yield from write_calibration(folder, parts.calibration)
    for i, one in enumerate(parts.categories.values()):
        # By number: a category may be called what no folder can be.
        place = f"{CATEGORIES}/{i}"
        (folder / place).mkdir(parents=True)
        write_json(folder / place / TRAINING_SET, asdict(one.training_set))
        yield f"{place}/{TRAINING_SET}"
        if one.calibration is not None:
            yield from (f"{place}/{name}" for name in write_calibration(folder / place, one.calibration))
        if one.region is not None:
            write_json(folder / place / REGION, one.region.to_dict())
            yield f"{place}/{REGION}"
        if not shared:
            one.bank.save(folder / place / BANK)
            yield f"{place}/{BANK}"


def _read_category(
    root: Path, place: str, shared: MemoryBank | None, files: Mapping[str, str], settings: Settings
) -> CategoryParts:
    own = {name.removeprefix(f"{place}/") for name in files if name.startswith(f"{place}/")}
    for name in (TRAINING_SET, *((BANK,) if shared is None else ())):
        _demand(root, f"{place}/{name}", files)
    folder = root / place
    return CategoryParts(
        MemoryBank.load(folder / BANK) if shared is None else shared,
        read_calibration(folder, {"files": own}) if CALIBRATION in own else None,
        read_training_set(folder),
        read_region_file(folder, settings) if REGION in own else None,
    )


def _demand(folder: Path, name: str, files: Mapping[str, str]) -> None:
    if name not in files:
        raise ModelError(f"{folder / CONFIG}: names no {name}; fit it again")
