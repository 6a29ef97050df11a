"""The library's calls that `benchmarks.gpu` compares between two devices, one function a step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.coreset.k_center import coreset_size, k_center_greedy
from reconpatch.data.images import read_image
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image
from reconpatch.settings import Settings
from reconpatch.training.training_loop import train_modulation

CPU = torch.device("cpu")
Results = dict[str, np.ndarray]
_SYNTHETIC_SIDE = 256  # pixels
_QUERIES = 8_192  # patches that are searched for


@dataclass(frozen=True)
class Check:
    """How far a result may be from the CPU's.

    Attributes:
        difference: of (reference, found); 0 where they are equal.
        measure: what it measures, in words.
        tolerance: the largest difference that passes.
    """

    difference: Callable[[np.ndarray, np.ndarray], float]
    measure: str
    tolerance: float


@dataclass(frozen=True)
class Step:
    """A piece of work whose results do not depend on the device, up to rounding.

    Attributes:
        name: of the step.
        run: does the work on a device and returns its results by name.
        checks: by the name of the result.
        reference: what the CPU does instead, where that is other work.
    """

    name: str
    run: Callable[[torch.device], Results]
    checks: Mapping[str, Check]
    reference: Callable[[torch.device], Results] | None = None


def relative_difference(reference: np.ndarray, found: np.ndarray) -> float:
    """Norm of the difference by the norm of the reference; infinite where shapes differ or a value is NaN."""
    if reference.shape != found.shape:
        return float("inf")
    wanted = reference.astype(np.float64)
    difference = float(np.linalg.norm(wanted - found) / max(np.linalg.norm(wanted), 1e-300))
    return difference if np.isfinite(difference) else float("inf")


def largest_difference(reference: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of any value by the largest magnitude; infinite as `relative_difference`."""
    if reference.shape != found.shape:
        return float("inf")
    wanted = reference.astype(np.float64)
    difference = float(np.abs(wanted - found).max() / max(np.abs(wanted).max(), 1e-300))
    return difference if np.isfinite(difference) else float("inf")


def share_different(reference: np.ndarray, found: np.ndarray) -> float:
    """Share of the values that are not equal; infinite where shapes differ."""
    return float("inf") if reference.shape != found.shape else float((reference != found).mean())


# What the arithmetic allows. On the CPU bfloat16 (8 significant bits) moves the features by 2.4e-2; cuDNN
# convolves in TF32, which has three bits more. Noise of 1e-6 in the features moves the trained f by 2e-5,
# noise of TF32's size the distances by 3e-4.
FEATURES = Check(relative_difference, "relative difference", 1e-2)
BFLOAT16 = Check(relative_difference, "relative difference", 5e-2)
TRAINED = Check(relative_difference, "relative difference", 1e-2)
LOSS = Check(relative_difference, "relative difference", 1e-3)
CORESET = Check(share_different, "share of other centres", 0.0)
DISTANCES = Check(largest_difference, "largest difference", 1e-4)
SCORES = Check(largest_difference, "largest difference", 1e-2)
MAPS = Check(relative_difference, "relative difference", 1e-2)


def write_synthetic(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write ``count`` smooth random textures as PNG; every fourth has a black square."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    side, paths = _SYNTHETIC_SIDE, []
    for number in range(count):
        coarse = draw.integers(60, 200, (side // 8, side // 8, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)).copy()
        if number % 4 == 3:
            top, left = draw.integers(0, side * 3 // 4, 2)
            image[top : top + side // 8, left : left + side // 8] = 0
        paths.append(folder / f"{number:04}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def make_steps(images: Sequence[Path], settings: Settings, scratch: Path) -> list[Step]:
    """The steps on these images; each gets what the CPU makes of the steps before it.

    Args:
        images: a detector is fitted on three quarters of them and scores the others; at least 4.
        settings: of every step but for the device.
        scratch: folder for the fitted detector.
    """
    held = max(1, len(images) // 4)
    prepared = np.stack([prepare_image(read_image(path), settings.features) for path in images])
    patches = _features(prepared, settings, CPU)
    patches = patches.reshape(-1, patches.shape[-1])
    modulation = train_modulation(patches, settings.modulation, seed=settings.seed).modulation
    vectors = modulation.transform(patches)
    size = coreset_size(len(vectors), settings.coreset.ratio, settings.coreset.max_bank)
    bank = vectors[k_center_greedy(vectors, size, seed=settings.seed)]
    queries = vectors[:: max(1, len(vectors) // _QUERIES)][:_QUERIES]
    detector = ReConPatch(settings=settings, params={"device": "cpu"}).fit(list(images[:-held]))
    detector.save(scratch / "detector")
    sample = patches[: 1 << 12]

    def features(device: torch.device) -> Results:
        return {"patch features": _features(prepared, settings, device)}

    def bfloat16(device: torch.device) -> Results:
        rounded = settings.features.model_copy(update={"precision": "bfloat16"})
        return {
            "patch features": _features(prepared, settings.model_copy(update={"features": rounded}), device)
        }

    def training(device: torch.device) -> Results:
        trained = train_modulation(patches, settings.modulation, seed=settings.seed, device=device)
        return {
            "f of patches": trained.modulation.transform(sample),
            "last loss": np.array([trained.history[-1].train_loss]),
        }

    def coreset(device: torch.device) -> Results:
        return {"centres": k_center_greedy(vectors, size, seed=settings.seed, device=device)}

    def search(device: torch.device) -> Results:
        # Of equally near neighbours either is right, so the distances are what must agree.
        return {"distances": MemoryBank(bank).to(device).search(queries, min(3, len(bank)))[0]}

    def predict(device: torch.device) -> Results:
        loaded = ReConPatch.load(scratch / "detector", device=str(device))
        predictions = loaded.predict(list(images[-held:]))
        return {
            "scores": np.array([prediction.score for prediction in predictions]),
            "maps": np.stack([prediction.anomaly_map for prediction in predictions]),
        }

    return [
        Step("features", features, {"patch features": FEATURES}),
        Step("features in bfloat16", bfloat16, {"patch features": BFLOAT16}, reference=features),
        Step("training of f", training, {"f of patches": TRAINED, "last loss": LOSS}),
        Step("coreset", coreset, {"centres": CORESET}),
        Step("search", search, {"distances": DISTANCES}),
        Step("predict", predict, {"scores": SCORES, "maps": MAPS}),
    ]


def _features(prepared: np.ndarray, settings: Settings, device: torch.device) -> np.ndarray:
    """(N, P, D) float16 patch features of prepared images."""
    return PatchExtractor(settings.features, device)(prepared)
