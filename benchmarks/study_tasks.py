"""What a study of detectors is measured on: patch features to fit on and images to score, in one file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from reconpatch.data.groups import hold_out_groups
from reconpatch.data.images import read_image, read_mask
from reconpatch.data.manifest import build_manifest, image_paths, mask_paths
from reconpatch.evaluation.defect_placement import KINDS, add_defect
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image, prepare_mask
from reconpatch.progress import track
from reconpatch.settings import DataSettings, FeatureSettings

PIXEL_STRIDE = 4
HELD_OUT = 0.5


@dataclass(frozen=True)
class Task:
    """Patch features to fit on, and images to score: (n, P, D) and (N, P, D) float16, masks strided."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def load_task(kind: str, name: str, root: Path, images: int, features: FeatureSettings, work: Path) -> Task:
    """The ``real`` or ``synthetic`` task of a category, built where ``work`` does not hold it yet."""
    extractor = PatchExtractor(features, torch.device("cpu"))
    file = work / f"{kind}-{name}-{images}-{extractor.digest[:8]}.npz"
    if not file.exists():
        build = real_task if kind == "real" else synthetic_task
        np.savez(file, **vars(build(root, images, extractor)))
    with np.load(file, allow_pickle=False) as arrays:
        return Task(**arrays)


def real_task(root: Path, images: int, extractor: PatchExtractor) -> Task:
    """At most ``images`` nominal training images (whole groups) and every test image of a category."""
    table = build_manifest(root, DataSettings())
    train = _some_groups(table[table["split"] == "train"], images)
    test = table[table["split"] == "test"]
    masks = []
    for path, mask in zip(image_paths(test), mask_paths(test), strict=True):
        shape = read_image(path).shape[:2]
        full = np.zeros(shape, bool) if mask is None else read_mask(mask, DataSettings().mask_threshold)
        masks.append(prepare_mask(full, extractor.settings))
    return Task(
        _extract((read_image(path) for path in image_paths(train)), extractor),
        _extract((read_image(path) for path in image_paths(test)), extractor),
        test["label"].to_numpy(),
        np.stack(masks)[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE],
    )


def synthetic_task(root: Path, images: int, extractor: PatchExtractor) -> Task:
    """Nominal training images alone: some groups fit, the others are scored with and without defects."""
    table = build_manifest(root, DataSettings())
    nominal = _some_groups(table[table["split"] == "train"], round(images / (1 - HELD_OUT)))
    held = hold_out_groups(nominal["group"].tolist(), HELD_OUT, seed=0)
    scored, masks, labels = [], [], []
    for number, path in enumerate(image_paths(nominal[held])):
        image = read_image(path)
        scored.append(image)
        masks.append(np.zeros(image.shape[:2], bool))
        labels.append(0)
        for kind in KINDS:
            defect = add_defect(image, kind, seed=number)
            scored.append(defect.image)
            masks.append(defect.mask)
            labels.append(1)
    return Task(
        _extract((read_image(path) for path in image_paths(nominal[~held])), extractor),
        _extract(iter(scored), extractor),
        np.array(labels),
        np.stack([prepare_mask(mask, extractor.settings)[::PIXEL_STRIDE, ::PIXEL_STRIDE] for mask in masks]),
    )


def _some_groups(table: pd.DataFrame, images: int) -> pd.DataFrame:
    order = np.random.default_rng(0).permutation(table["group"].unique())
    sizes = table["group"].value_counts()[order].cumsum()
    return table[table["group"].isin(sizes.index[: 1 + int((sizes < images).sum())])]


def _extract(images: Iterator[np.ndarray], extractor: PatchExtractor) -> np.ndarray:
    return np.concatenate(
        [extractor(prepare_image(image, extractor.settings)[None]) for image in track(images, "features")]
    )
