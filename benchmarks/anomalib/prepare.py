"""What both sides are given: weights, images, features; and the checks that these are the same."""

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from reconpatch.data.images import read_image
from reconpatch.data.training_images import training_images
from reconpatch.device import limit_threads
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import extract_features
from reconpatch.fit import fit_modulation
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image
from reconpatch.model.weights import find_weights
from reconpatch.settings import Settings


def export_weights(settings: Settings, path: Path) -> None:
    """The backbone's weights under timm's names, for the other side to load."""
    tensors = find_weights(settings.features.backbone, settings.features.weights).tensors
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def copy_part(category: Path, images: int, folder: Path) -> Path:
    """A category of the first so many training images and of every fifth test image, for a try."""
    for path in sorted((category / "train" / "good").iterdir())[:images]:
        _copy(path, category, folder)
    for path in sorted(category.glob("test/*/*"))[::5]:
        _copy(path, category, folder)
    shutil.copytree(category / "ground_truth", folder / "ground_truth", dirs_exist_ok=True)
    return folder


def _copy(path: Path, category: Path, folder: Path) -> None:
    target = folder / path.relative_to(category)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def write_features(category: Path, settings: Settings, scratch: Path, path: Path) -> tuple[int, int]:
    """Patch features of the training images, through f where it is enabled, as (N, D) float32 npy."""
    limit_threads(settings.threads)
    paths = training_images(category, settings.data).paths
    extractor = PatchExtractor(settings.features, torch.device("cpu"))
    features = extract_features(paths, extractor, FeatureCache(scratch))
    trained = fit_modulation(features, settings)
    rows = features.as_array().reshape(-1, features.dim)
    modulated = trained.modulation.transform(rows)
    np.save(path, modulated)
    return modulated.shape


def example(category: Path, settings: Settings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A normalised image (1, 3, S, S) of the category and our patch features of it (1, P, D)."""
    extractor = PatchExtractor(settings.features, torch.device("cpu"))
    image = read_image(training_images(category, settings.data).paths[0])
    prepared = prepare_image(image, settings.features)[None]
    mean, std = np.array(extractor.backbone.mean), np.array(extractor.backbone.std)
    normalised = ((prepared / 255 - mean) / std).transpose(0, 3, 1, 2)
    return np.ascontiguousarray(normalised, dtype=np.float32), extractor(prepared).astype(np.float32)


def largest_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Largest difference of two features in units of the largest feature."""
    return float(np.abs(a - b).max() / np.abs(a).max())


def covering_radius(features: NDArray[np.float32], indices: NDArray[np.int64]) -> float:
    """Largest distance of a vector to its nearest chosen one."""
    rows = torch.from_numpy(features)
    centres = rows[torch.from_numpy(indices)]
    farthest = [torch.cdist(part, centres).amin(dim=1).amax() for part in rows.split(4096)]
    return float(torch.stack(farthest).amax())
