"""Stage calibrate: threshold and statistics from held-out nominal groups; the detector is complete."""

from pathlib import Path

from reconpatch.calibration.held_out_images import image_statistics_of
from reconpatch.calibration.self_check import warn_of_suspects
from reconpatch.device import choose_device
from reconpatch.fit import fit_detector
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.storage.detector_folder import write_model
from reconpatch.text.csv_files import write_frame
from tasks.running.read_outputs import (
    load_backbone_reference,
    load_images,
    load_manifest,
    load_modulation,
    load_split,
)
from tasks.running.stage_folders import Job
from tasks.running.stage_table import NOMINAL_CHECK


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``model/``, the detector folder that `reconpatch.load` reads, and ``nominal_check.csv``.

    The latter lists the nominal images that look unlike all others, and is empty where nobody could tell.
    """
    settings, images = job.detector_settings, load_images(job)
    bank = MemoryBank.load(job.folder("coreset") / "bank.safetensors").to(choose_device(settings.device))
    fitted = fit_detector(
        images,
        load_backbone_reference(images.features, settings.features),
        settings,
        split=load_split(job),
        modulation=load_modulation(job, bank.dim),
        bank=bank,
        statistics=image_statistics_of(load_manifest(job)),
    )
    write_model(folder / "model", fitted.parts)
    paths = [path.relative_to(job.images).as_posix() for path in images.features.paths]
    write_frame(folder / NOMINAL_CHECK, warn_of_suspects(fitted.self_check, paths, settings))
    return {}
