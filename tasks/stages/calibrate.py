"""Stage calibrate: threshold and statistics from held-out nominal groups; the detector is complete."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reconpatch.calibration.held_out_images import image_statistics_of
from reconpatch.calibration.self_check import check_nominal, warn_of_suspects
from reconpatch.data.nominal_split import split_nominal
from reconpatch.device import choose_device
from reconpatch.errors import ModelError
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import calibrate_fit, check_false_reject_rate, training_set
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Modulation
from reconpatch.model.patch_extractor import extractor_digest
from reconpatch.model.weights import find_weights
from reconpatch.settings import FeatureSettings
from reconpatch.storage.detector_folder import FittedParts, write_model
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.text.csv_files import write_frame
from tasks.running.read_outputs import load_features, load_manifest, load_modulation, load_training_images
from tasks.running.stage_folders import Job
from tasks.running.stage_table import NOMINAL_CHECK


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``model/``, the detector folder that `ReConPatch.load` reads, and ``nominal_check.csv``.

    The latter tells which nominal images look unlike all others, and is empty where nobody could tell.
    """
    settings, images = job.detector_settings, load_training_images(job)
    features = load_features(job)
    modulation = load_modulation(job.folder("train") / "head")
    bank = MemoryBank.load(job.folder("coreset") / "bank.safetensors").to(choose_device(settings.device))
    split = split_nominal(features.paths, images.groups, features.image_digests, settings)
    check_false_reject_rate(split, settings)
    parts = FittedParts(
        settings,
        backbone_of(features, settings.features),
        modulation,
        bank,
        calibrate_fit(
            features,
            images.groups,
            split,
            modulation,
            bank,
            settings,
            image_statistics_of(load_manifest(job)),
        ),
        training_set(features, images.groups, split),
        region=features.region,
    )
    write_model(folder / "model", parts)
    _check_nominal(job, folder, features, images.groups, modulation, bank)
    return {}


def _check_nominal(
    job: Job,
    folder: Path,
    features: PatchFeatures,
    groups: Sequence[str],
    modulation: Modulation | None,
    bank: MemoryBank,
) -> None:
    limit = job.settings.calibrate.suspicious_z
    checked = None if limit is None else check_nominal(features, groups, modulation, bank)
    table = pd.DataFrame(columns=["path", "score", "z", "suspicious"])
    if checked is not None and limit is not None:
        table = checked.table([path.relative_to(job.images).as_posix() for path in features.paths], limit)
        warn_of_suspects(table, limit)
    write_frame(folder / NOMINAL_CHECK, table)


def backbone_of(features: PatchFeatures, settings: FeatureSettings) -> BackboneReference:
    """The weights that the features came from; the network itself is not loaded."""
    weights = find_weights(settings.backbone, settings.weights)
    if extractor_digest(settings, weights.sha256) != features.extractor_digest:
        raise ModelError(
            f"{settings.backbone}: its weights ({weights.source}) are not those that the stage `features` "
            "used; delete that stage's folder of outputs and run again"
        )
    return BackboneReference(settings.backbone, weights.sha256, weights.source)
