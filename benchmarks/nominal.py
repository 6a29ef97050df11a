"""Patch features of a category's nominal images, for studies of f alone."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import extract_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import Settings


def nominal_patches(category: Path, images: int, settings: Settings) -> np.ndarray:
    """(N, P, D) float16 of the first ``images`` nominal training images, or of all there are."""
    table = build_manifest(category, settings.data)
    paths = image_paths(table[table["split"] == "train"])[:images]
    with TemporaryDirectory() as folder:
        extractor = PatchExtractor(settings.features, torch.device("cpu"))
        features = extract_features(paths, extractor, FeatureCache(Path(folder)))
        return features.as_array().reshape(len(features), -1, features.dim)
