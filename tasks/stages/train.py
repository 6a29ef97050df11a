"""Stage train: the split, and the modulation f, learnt on the patches of the images that fit the detector."""

from pathlib import Path

from reconpatch.model.modulation import Modulation
from reconpatch.storage.atomic_files import write_json
from reconpatch.training.fit_modulation import fit_modulation
from reconpatch.training.training_loop import write_history
from tasks.running.read_outputs import HEAD, SPLIT, load_images
from tasks.running.stage_folders import Job
from tasks.running.stage_table import HISTORY


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``split.json``, ``head/`` (empty for plain PatchCore) and ``history.csv``."""
    settings, images = job.detector_settings, load_images(job)
    split = images.split(settings)
    write_json(folder / SPLIT, split.to_dict())
    trained = fit_modulation(images.features.subset(split.fit), settings)
    (folder / "head").mkdir()
    if isinstance(trained.modulation, Modulation):
        trained.modulation.save(folder / "head" / HEAD)
    write_history(folder / HISTORY, trained.history)
    return {}
