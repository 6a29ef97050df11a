"""Which modulation is worth its default: PatchCore and variants of f on the very same features.

    python benchmarks/study_modulation.py --work DIR [--real NAME=FOLDER ...] [--synthetic NAME=FOLDER ...]
                                          [--variants NAME ...] [--seeds 0 1 2] [--images 120]

A real task scores a category's labelled test images. A synthetic one uses nominal training images alone:
some groups are held out, and each of their images is scored as it is and with one defect of each synthetic
kind; so a default may be chosen on a category whose test labels stay unseen. Every result is one line of
DIR/results.jsonl, and what stands there is not computed again.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from reconpatch.data.groups import hold_out_groups
from reconpatch.data.images import read_image, read_mask
from reconpatch.data.manifest import build_manifest, image_paths, mask_paths
from reconpatch.evaluation.metrics import aupro, image_auroc, pixel_auroc
from reconpatch.evaluation.synthetic import KINDS, add_defect
from reconpatch.features.extract import PatchExtractor
from reconpatch.features.preprocess import prepare_image, prepare_mask
from reconpatch.memory import MemoryBank, coreset_size, k_center_greedy
from reconpatch.modulation import Modulation, train_modulation, training
from reconpatch.progress import track
from reconpatch.scoring.anomaly_map import anomaly_maps
from reconpatch.scoring.patch_scores import score_patches
from reconpatch.settings import DataSettings, FeatureSettings, ModulationSettings, ScoringSettings

FEATURES = FeatureSettings()
PIXEL_STRIDE = 4
HELD_OUT = 0.5

# Each differs from the base in what it names; PatchCore has no f. What is no setting of the modulation:
# `batches` and `teacher` (`other_training`), `standardise` (the features), `scoring` (mode and b of eq. 10).
BASE: dict[str, Any] = {
    "dim": 512, "projection_dim": 128, "init": "isometry", "neighbours": 5, "alpha": 0.5, "sigma": None,
    "ema": 0.999, "steps": 1000, "learning_rate": 1e-3,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "PatchCore": {"f": False},
    "random f, untrained": {"init": "random", "steps": 0},
    "random f": {"init": "random"},
    "base": {},
    "alpha 0": {"alpha": 0.0},
    "alpha 1": {"alpha": 1.0},
    "lr 3e-4": {"learning_rate": 3e-4},
    "lr 3e-3": {"learning_rate": 3e-3},
    "steps 500": {"steps": 500},
    "steps 2000": {"steps": 2000},
    "gamma 0.99": {"ema": 0.99},
    "dim 152": {"dim": 152},
    "dim 256": {"dim": 256},
    "g 512": {"projection_dim": 512},
    "sigma 3": {"sigma": 3.0},
    "k 10": {"neighbours": 10},
    "alpha 0, lr 3e-4": {"alpha": 0.0, "learning_rate": 3e-4},
    "alpha 0, lr 3e-3": {"alpha": 0.0, "learning_rate": 3e-3},
    "alpha 0, steps 500": {"alpha": 0.0, "steps": 500},
    "alpha 0, steps 2000": {"alpha": 0.0, "steps": 2000},
    "alpha 0, gamma 0.99": {"alpha": 0.0, "ema": 0.99},
    "alpha 0, dim 152": {"alpha": 0.0, "dim": 152},
    "alpha 0, g 512": {"alpha": 0.0, "projection_dim": 512},
    "alpha 0, k 10": {"alpha": 0.0, "neighbours": 10},
    "alpha 0, random f": {"alpha": 0.0, "init": "random"},
    "dim 64, untrained": {"dim": 64, "steps": 0},
    "64 principal directions": {"principal": 64},
    "alpha 0, batch 1024": {"alpha": 0.0, "batch_size": 1024},
    "alpha 0, batch 2048, steps 500": {"alpha": 0.0, "batch_size": 2048, "steps": 500},
    "batches of neighbours": {"batches": "neighbours"},
    "alpha 0, batches of neighbours": {"alpha": 0.0, "batches": "neighbours"},
    "alpha 0, batches of 8 images": {"alpha": 0.0, "batches": "images"},
    "alpha 0, teacher not normalised": {"alpha": 0.0, "teacher": "as it is"},
    "each dimension to variance 1, untrained": {"standardise": True, "steps": 0},
    "alpha 0, each dimension to variance 1": {"alpha": 0.0, "standardise": True},
    "image re-weighted, b 9": {"scoring": ("image", 9)},
    "image re-weighted, b 3": {"scoring": ("image", 3)},
    "patches re-weighted, b 9": {"scoring": ("patch", 9)},
    "PatchCore, image re-weighted, b 9": {"f": False, "scoring": ("image", 9)},
    "PatchCore, image re-weighted, b 3": {"f": False, "scoring": ("image", 3)},
    "PatchCore, patches re-weighted, b 9": {"f": False, "scoring": ("patch", 9)},
    "alpha 0, image re-weighted, b 9": {"alpha": 0.0, "scoring": ("image", 9)},
    "alpha 0, image re-weighted, b 3": {"alpha": 0.0, "scoring": ("image", 3)},
    "alpha 0, patches re-weighted, b 9": {"alpha": 0.0, "scoring": ("patch", 9)},
    "whitening 0.25": {"whitening": 0.25},
    "whitening 0.25, untrained": {"whitening": 0.25, "steps": 0},
    "whitening 0.25, alpha 0": {"whitening": 0.25, "alpha": 0.0},
    "whitening 0.5": {"whitening": 0.5},
    "whitening 0.5, untrained": {"whitening": 0.5, "steps": 0},
    "whitening 0.5, alpha 0": {"whitening": 0.5, "alpha": 0.0},
}


@dataclass(frozen=True)
class Task:
    """Patch features to fit on, and images to score: (n, P, D) and (N, P, D) float16, masks strided."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


def real_task(root: Path, images: int, extractor: PatchExtractor) -> Task:
    """At most ``images`` nominal training images (whole groups) and every test image of a category."""
    table = build_manifest(root, DataSettings())
    train = _some_groups(table[table["split"] == "train"], images)
    test = table[table["split"] == "test"]
    masks = []
    for path, mask in zip(image_paths(test), mask_paths(test), strict=True):
        shape = read_image(path).shape[:2]
        full = np.zeros(shape, bool) if mask is None else read_mask(mask, DataSettings().mask_threshold)
        masks.append(prepare_mask(full, FEATURES))
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
        np.stack([prepare_mask(mask, FEATURES)[::PIXEL_STRIDE, ::PIXEL_STRIDE] for mask in masks]),
    )


def measure(task: Task, changes: dict[str, Any], seed: int) -> dict[str, float]:
    """Train, fill a 1 % bank, score the images; seconds are those of one process on a shared machine."""
    rows = task.train.reshape(-1, task.train.shape[-1])
    spread = np.ones(rows.shape[1], np.float32)
    if changes.get("standardise"):
        spread = rows.astype(np.float32).std(axis=0) + 1e-6
        rows = rows.astype(np.float32) / spread
    started = time.process_time()
    if not changes.get("f", True):
        modulation = None
    elif "principal" in changes:
        modulation = _principal_directions(rows, changes["principal"])
    else:
        values = {key: value for key, value in changes.items() if key in ModulationSettings.model_fields}
        settings = ModulationSettings(**{**BASE, **values})
        with other_training(changes, rows, task.train.shape[1]):
            modulation = _narrowed(train_modulation(rows, settings, seed=seed).modulation)
    trained = time.process_time() - started

    def modulated(block: np.ndarray) -> np.ndarray:
        return modulation.apply(block) if modulation is not None else block.astype(np.float32)

    vectors = modulated(rows)
    bank = MemoryBank(vectors[k_center_greedy(vectors, coreset_size(len(vectors), 0.01), seed=seed)])
    mode, b = changes.get("scoring", ("none", ScoringSettings().neighbours))
    scoring = ScoringSettings(reweighting=mode, neighbours=b)
    scored = [score_patches(bank, modulated(block / spread)[None], scoring) for block in task.test]
    patches, images = (np.concatenate(parts) for parts in zip(*scored, strict=True))
    side = round(patches.shape[1] ** 0.5)
    maps = anomaly_maps(patches.reshape(-1, side, side), FEATURES.image_size, scoring.blur_sigma)
    strided = maps[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE]
    return {
        "image_auroc": image_auroc(task.labels, images),
        "pixel_auroc": pixel_auroc(task.masks, strided),
        "aupro": aupro(task.masks, strided),
        "training_seconds": trained,
    }


@contextmanager
def other_training(changes: dict[str, Any], rows: np.ndarray, patches: int) -> Iterator[None]:
    """Choices that are no parameter, put into the training for as long as the block lasts.

    ``batches``: ``images`` takes all patches of a step from 8 images; ``neighbours`` takes random patches
    with the five nearest of each among 20,000 (as the parent method STML composes its batches).
    ``teacher``: its embeddings are compared as they are, not L2-normalised.
    """
    with ExitStack() as changed:
        if "batches" in changes:
            draws = {
                "images": partial(_batches_of_images, patches),
                "neighbours": partial(_batches_of_neighbours, rows),
            }
            changed.enter_context(patch.object(training, "balanced_batches", draws[changes["batches"]]))
        if "teacher" in changes:
            changed.enter_context(patch.object(training.functional, "normalize", lambda z, **_: z))
        yield


def _batches_of_images(
    patches: int, parts: Sequence[int], size: int, generator: torch.Generator, images: int = 8
) -> Iterator[np.ndarray]:
    while True:
        picked = torch.randperm(sum(parts) // patches, generator=generator)[:images]
        yield np.concatenate(
            [
                int(image) * patches + torch.randperm(patches, generator=generator)[: size // images].numpy()
                for image in picked
            ]
        )


def _batches_of_neighbours(
    rows: np.ndarray, _parts: Sequence[int], size: int, generator: torch.Generator, pool: int = 20_000
) -> Iterator[np.ndarray]:
    among = torch.randperm(len(rows), generator=generator)[:pool].sort().values.numpy()
    vectors = rows[among].astype(np.float32)
    nearest = MemoryBank(vectors).search(vectors, 6)[1]  # itself and five others
    share = size // nearest.shape[1]
    while True:
        order = torch.randperm(len(among), generator=generator).numpy()
        for start in range(0, len(order) - share + 1, share):
            yield among[np.unique(nearest[order[start : start + share]])]


def _principal_directions(rows: np.ndarray, dim: int) -> Modulation:
    """The other way to make f narrower than its input: keep where nominal patches vary most."""
    centred = rows.astype(np.float32) - rows.mean(0, dtype=np.float64).astype(np.float32)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    weight = torch.from_numpy(np.ascontiguousarray(vectors[:, ::-1][:, :dim].T))
    return Modulation(weight, torch.zeros(rows.shape[1]), torch.ones(()))


def _narrowed(modulation: Modulation) -> Modulation:
    """The same distances out of a width of at most D: with W = QR, |W x| = |R x|; saves study time only."""
    weight = modulation.weight.detach()
    if modulation.dim <= modulation.dim_in:
        return modulation
    return Modulation(torch.linalg.qr(weight.double()).R.float(), modulation.mean, modulation.scale)


def _some_groups(table: pd.DataFrame, images: int) -> pd.DataFrame:
    order = np.random.default_rng(0).permutation(table["group"].unique())
    sizes = table["group"].value_counts()[order].cumsum()
    return table[table["group"].isin(sizes.index[: 1 + int((sizes < images).sum())])]


def _extract(images: Iterator[np.ndarray], extractor: PatchExtractor) -> np.ndarray:
    return np.concatenate(
        [extractor(prepare_image(image, FEATURES)[None]) for image in track(images, "features")]
    )


def _load_task(kind: str, name: str, root: Path, images: int, work: Path) -> Task:
    file = work / f"{kind}-{name}-{images}.npz"
    if not file.exists():
        build = real_task if kind == "real" else synthetic_task
        task = build(root, images, PatchExtractor(FEATURES, torch.device("cpu")))
        np.savez(file, **vars(task))
    with np.load(file, allow_pickle=False) as arrays:
        return Task(**arrays)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--real", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--synthetic", nargs="*", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--images", type=int, default=120, help="most nominal images to train on")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    log = arguments.work / "results.jsonl"
    done = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()] if log.exists() else [])
    keys = set(zip(done["task"], done["variant"], done["seed"], strict=True)) if len(done) else set()
    for kind in ("real", "synthetic"):
        for name, _, folder in (entry.partition("=") for entry in getattr(arguments, kind)):
            task = _load_task(kind, name, Path(folder), arguments.images, arguments.work)
            label = f"{name}-{kind}-{arguments.images}"
            for variant in arguments.variants:
                for seed in arguments.seeds:
                    if (label, variant, seed) in keys:
                        continue
                    result = measure(task, VARIANTS[variant], seed)
                    row = {"task": label, "variant": variant, "seed": seed, **result}
                    print(json.dumps(row), flush=True)
                    with log.open("a") as stream:
                        stream.write(json.dumps(row) + "\n")
    print(table(log))


def table(log: Path) -> str:
    """Mean and standard deviation over seeds, in points, one row a variant and three columns a task."""
    results = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()])
    metrics = ["image_auroc", "pixel_auroc", "aupro"]
    results[metrics] *= 100
    grouped = results.groupby(["variant", "task"], sort=False)[metrics]
    mean, spread = grouped.mean(), grouped.std()
    cells = mean.map("{:.2f}".format) + spread.map(lambda s: "" if np.isnan(s) else f" ± {s:.2f}")
    return cells.unstack("task").to_string()


if __name__ == "__main__":
    main()
