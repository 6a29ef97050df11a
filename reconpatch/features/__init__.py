"""Patch features of a frozen backbone, and the cache that keeps them."""

from reconpatch.features.backbone import Backbone, load_backbone
from reconpatch.features.batches import ImageLike, iter_batches
from reconpatch.features.cache import FeatureCache
from reconpatch.features.dataset import PatchFeatures, extract_features
from reconpatch.features.extract import PatchExtractor
from reconpatch.features.patches import aggregate_patches
from reconpatch.features.preprocess import prepare_image, prepare_mask

__all__ = [
    "Backbone",
    "FeatureCache",
    "ImageLike",
    "PatchExtractor",
    "PatchFeatures",
    "aggregate_patches",
    "extract_features",
    "iter_batches",
    "load_backbone",
    "prepare_image",
    "prepare_mask",
]
