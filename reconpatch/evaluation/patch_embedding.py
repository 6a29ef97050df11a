"""Patch embeddings before, during and after the training of f, laid out in the plane by UMAP."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from reconpatch.data.training_images import training_images
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import DataError, ReConPatchError
from reconpatch.evaluation.ground_truth import read_ground_truth
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures, extract_features
from reconpatch.model.modulation import Modulation
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_mask
from reconpatch.settings import Settings
from reconpatch.training.fit_modulation import sample_patches
from reconpatch.training.training_loop import train_modulation

_NEIGHBOURS, _MIN_DISTANCE = 30, 0.1  # of UMAP
_TRAINING_BYTES = 256 << 20


@dataclass(frozen=True)
class Patches:
    """Patches of test images.

    Attributes:
        features: (n, D) float16.
        positions: (n, 2) row and column of the patch in its image, in [0, 1].
        defective: (n,) bool, at least half of the patch is defect.
    """

    features: NDArray[np.float16]
    positions: NDArray[np.float64]
    defective: NDArray[np.bool_]


@dataclass(frozen=True)
class Stage:
    """The plane at one moment of the training.

    Attributes:
        step: steps done.
        points: (n, 2) UMAP coordinates, which have no unit.
    """

    step: int
    points: NDArray[np.float32]


def embed_category(
    table: pd.DataFrame, settings: Settings, cache: FeatureCache, *, count: int = 3000
) -> tuple[Patches, list[Stage]]:
    """Train f on a category and lay the same test patches out before, half-way and at the end.

    Args:
        table: the category's manifest, with test images.
        settings: all parameters; ``modulation.enabled`` must be true.
        cache: the feature cache.
        count: patches shown; up to a third of them are defective.

    Returns:
        The patches, and three stages in order.

    Raises:
        DataError: there is no test image, or one cannot be read.
        ReConPatchError: umap-learn is not installed.
    """
    limit_threads(settings.threads)
    extractor = PatchExtractor(settings.features, choose_device(settings.device))
    training = training_images(table, settings.data)
    fitted = extract_features(training.paths, extractor, cache)
    patches = choose_patches(table, settings, extractor, cache, count)
    snapshots: list[tuple[int, Modulation]] = []
    train_modulation(
        sample_patches(fitted, _TRAINING_BYTES, settings.seed),
        settings.modulation,
        seed=settings.seed,
        device=choose_device(settings.device),
        observe=lambda step, modulation: snapshots.append((step, deepcopy(modulation).cpu())),
    )
    half = snapshots[len(snapshots) // 2]
    chosen = [snapshots[0], half, snapshots[-1]]
    layouts = lay_out([modulation.transform(patches.features) for _, modulation in chosen], settings.seed)
    return patches, [Stage(step, points) for (step, _), points in zip(chosen, layouts, strict=True)]


def choose_patches(
    table: pd.DataFrame, settings: Settings, extractor: PatchExtractor, cache: FeatureCache, count: int
) -> Patches:
    """Draw patches of the test images by ``settings.seed``: defective ones up to a third, the rest nominal.

    Nominal are the patches of good images that hold no defect; patches of defective images that no mask
    marks, or that a mask marks in part, are left out.

    Raises:
        DataError: there is no good test image.
    """
    test = table[table["split"] == "test"]
    features = extract_features([Path(table.attrs["root"]) / path for path in test["path"]], extractor, cache)
    nominal, defective = _split(test, features, Path(table.attrs["root"]), settings)
    if not len(nominal):
        raise DataError(f"{table.attrs['root']}: has no good test image to take nominal patches from")
    rng = np.random.default_rng(settings.seed)
    shown = rng.permutation(defective)[: count // 3]
    rows = np.concatenate([rng.permutation(nominal)[: count - len(shown)], shown])
    flags = np.arange(len(rows)) >= len(rows) - len(shown)
    order = np.argsort(rows, kind="stable")
    rows, flags = rows[order], flags[order]
    height, width = features.grid
    inside = rows % (height * width)
    positions = np.stack([inside // width / max(height - 1, 1), inside % width / max(width - 1, 1)], axis=1)
    return Patches(features.take(rows), positions, flags)


def _split(
    test: pd.DataFrame, features: PatchFeatures, root: Path, settings: Settings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of `PatchFeatures.as_array` that are nominal, and those that are defective."""
    patches = features.grid[0] * features.grid[1]
    nominal, defective = [], []
    for number, row in enumerate(test.itertuples()):
        rows = number * patches + np.arange(patches)
        mask = read_ground_truth(row, root, settings)
        if row.label == 0:
            nominal.append(rows)
        elif mask is not None:
            prepared = torch.from_numpy(prepare_mask(mask, settings.features).astype(np.float32))
            share = torch.nn.functional.adaptive_avg_pool2d(prepared[None], features.grid).numpy().ravel()
            defective.append(rows[share >= 0.5])
    empty = [np.empty(0, np.int64)]
    return np.concatenate(nominal or empty), np.concatenate(defective or empty)


def lay_out(embeddings: Sequence[NDArray[np.float32]], seed: int) -> list[NDArray[np.float32]]:
    """UMAP of each (n, dim) array in turn, each starting from the plane of the one before.

    So a point moves only as far as its neighbours have changed. Euclidean distances, 30 neighbours, minimal
    distance 0.1; the same arguments give the same points on one machine.

    Raises:
        ReConPatchError: umap-learn is not installed.
    """
    try:
        from umap import UMAP
    except ImportError:
        raise ReConPatchError(
            'pictures of the embedding need umap-learn; install it with pip install "reconpatch[pictures]"'
        ) from None
    planes: list[NDArray[np.float32]] = []
    for embedding in embeddings:
        start = planes[-1] if planes else "pca"
        neighbours = min(_NEIGHBOURS, len(embedding) - 1)
        umap = UMAP(
            n_neighbors=neighbours, min_dist=_MIN_DISTANCE, init=start, random_state=seed, n_jobs=1
        )  # fmt: skip
        planes.append(np.asarray(umap.fit_transform(embedding), dtype=np.float32))
    return planes
