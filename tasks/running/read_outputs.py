"""What the stages read of each other, from files back to objects."""

import json

import pandas as pd

from reconpatch.data.manifest import read_manifest
from reconpatch.data.nominal_split import NominalSplit
from reconpatch.data.training_images import TrainingImages, training_images
from reconpatch.device import choose_device
from reconpatch.errors import ModelError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import NominalImages
from reconpatch.model.modulation import AnyModulation, Identity, Modulation
from reconpatch.model.patch_extractor import extractor_digest
from reconpatch.model.weights import find_weights
from reconpatch.settings import FeatureSettings
from reconpatch.storage.detector_schema import BackboneReference
from tasks.running.stage_folders import Job

HEAD = "head.safetensors"
INDEX = "index.json"
SPLIT = "split.json"


def load_manifest(job: Job) -> pd.DataFrame:
    """The manifest that `validate` wrote, rooted at the job's images."""
    table = read_manifest(job.folder("validate") / "manifest.parquet")
    table.attrs["root"] = str(job.images)
    return table


def load_training(job: Job) -> TrainingImages:
    """The nominal training images, in the manifest's order."""
    return training_images(load_manifest(job), job.settings.data)


def feature_cache(job: Job) -> FeatureCache:
    """The cache that all stages and flows share."""
    return FeatureCache(job.cache, job.settings.pipeline.cache_max_bytes, job.shared)


def load_images(job: Job) -> NominalImages:
    """The category's nominal training images with the patch features that `features` indexed.

    No image is hashed again, so that all stages learn of the same bytes: an image that was edited since
    is read only when its block left the cache, and then refused with `DataError`.
    """
    settings = job.detector_settings
    training = load_training(job)
    index = json.loads((job.folder("features") / INDEX).read_text(encoding="utf-8"))
    device = choose_device(settings.device)
    cache = feature_cache(job)
    features = PatchFeatures.from_index(index, job.images, cache, settings.features, device)
    return NominalImages(features, training.groups)


def load_split(job: Job) -> NominalSplit:
    """Which of these images fit the detector and which calibrate it, as `train` drew them."""
    return NominalSplit.from_dict(json.loads((job.folder("train") / SPLIT).read_text(encoding="utf-8")))


def load_modulation(job: Job, width: int) -> AnyModulation:
    """The f that `train` wrote; for plain PatchCore the identity of features of ``width``."""
    path = job.folder("train") / "head" / HEAD
    return Modulation.load(path) if path.is_file() else Identity(width)


def load_backbone_reference(features: PatchFeatures, settings: FeatureSettings) -> BackboneReference:
    """The weights that the features came from; the network itself is not loaded.

    Raises:
        ModelError: the weights found now are others.
    """
    weights = find_weights(settings.backbone, settings.weights)
    if extractor_digest(settings, weights.sha256) != features.extractor_digest:
        raise ModelError(
            f"{settings.backbone}: its weights ({weights.source}) are not those that the stage `features` "
            "used; delete that stage's folder of outputs and run again"
        )
    return BackboneReference(settings.backbone, weights.sha256, weights.source)
