"""What the stages read of each other, from files back to objects."""

import json
from pathlib import Path

import pandas as pd

from reconpatch.data.manifest import read_manifest
from reconpatch.data.training_images import TrainingImages, training_images
from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.modulation import Modulation
from tasks.running.stage_folders import Job

HEAD = "head.safetensors"
INDEX = "index.json"


def load_manifest(job: Job) -> pd.DataFrame:
    """The manifest that `validate` wrote, rooted at the job's images."""
    table = read_manifest(job.folder("validate") / "manifest.parquet")
    table.attrs["root"] = str(job.images)
    return table


def load_training_images(job: Job) -> TrainingImages:
    """The nominal training images, in the manifest's order."""
    return training_images(load_manifest(job), job.settings.data)


def feature_cache(job: Job) -> FeatureCache:
    """The cache that all stages and flows share."""
    return FeatureCache(job.cache, job.settings.pipeline.cache_max_bytes, job.shared)


def load_features(job: Job) -> PatchFeatures:
    """Patch features that `features` indexed, in the order of `load_training_images`.

    No image is hashed again, so that all stages learn of the same bytes: an image that was edited since
    is read only when its block left the cache, and then refused with `DataError`.
    """
    settings = job.detector_settings
    index = json.loads((job.folder("features") / INDEX).read_text(encoding="utf-8"))
    device = choose_device(settings.device)
    return PatchFeatures.from_index(index, job.images, feature_cache(job), settings.features, device)


def load_modulation(folder: Path) -> Modulation | None:
    """The modulation f that `train` wrote; None for plain PatchCore."""
    path = folder / HEAD
    return Modulation.load(path) if path.is_file() else None
