"""Stage coreset: the memory bank, selected from the fit images' patches in f's space."""

from pathlib import Path

from reconpatch.fitting import fit_bank, split_nominal
from tasks.inputs import load_features, load_modulation, load_training_images
from tasks.job import Job
from tasks.stage import main


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``bank.safetensors``."""
    settings, images = job.detector_settings, load_training_images(job)
    features = load_features(job)
    split = split_nominal(images.groups, features.image_digests, settings)
    modulation = load_modulation(job.folder("train") / "head")
    fit_bank(features.subset(split.fit), modulation, settings).save(folder / "bank.safetensors")
    return {}


if __name__ == "__main__":
    main("coreset")
