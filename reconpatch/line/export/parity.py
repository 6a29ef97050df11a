"""Proof on real images that an exported graph says what the detector says, or the reasons why not."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.export.formats.graph_format import Run
from reconpatch.progress import track

_STEPS = 14
_BLENDS = 8
_WARM_UP = 3


@dataclass(frozen=True)
class Flip:
    """An image whose verdict differs.

    Attributes:
        image: its name, or how it was blended.
        score: by the detector.
        exported_score: by the graph.
        threshold: that lies between them.
    """

    image: str
    score: float
    exported_score: float
    threshold: float


@dataclass(frozen=True)
class Parity:
    """What a comparison showed.

    Attributes:
        images: real images compared.
        blends: mixtures of two of them, made so that their score lies at a threshold.
        near: of all these, those whose score lies within ten tolerances of a threshold.
        tolerance: of a score, in its units: what may differ and flip a verdict.
        score_difference: largest.
        map_difference: largest of any map pixel.
        beyond: names of images whose score differs by more than the tolerance.
        flips_outside: verdicts that differ, the score further from the threshold than the tolerance.
        flips_inside: those that differ within it.
        native_ms: the detector's p50 and p95 of one image, from the resized image on.
        exported_ms: likewise the graph's.
    """

    images: int
    blends: int
    near: int
    tolerance: float
    score_difference: float
    map_difference: float
    beyond: tuple[str, ...]
    flips_outside: tuple[Flip, ...]
    flips_inside: tuple[Flip, ...]
    native_ms: tuple[float, float]
    exported_ms: tuple[float, float]

    @property
    def proven(self) -> bool:
        """Whether scores agree within the tolerance, and verdicts outside it."""
        return not self.beyond and not self.flips_outside

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values."""
        return {**asdict(self), "proven": self.proven}


def compare(
    detector: FittedDetector,
    run: Run,
    images: Sequence[tuple[str, NDArray[np.uint8]]],
    *,
    tolerance: float,
) -> Parity:
    """Compare a graph with its detector.

    Args:
        detector: calibrated.
        run: the exported graph.
        images: names and prepared images (S, S, 3) uint8, at least one.
        tolerance: of a score, in its units.
    """
    calibration, model = detector.demand_calibration(), detector.module().eval()
    thresholds = (calibration.threshold.value, calibration.review.value)
    for _, image in images[:_WARM_UP]:
        native(model, image)
        run(image[None])
    scores: list[float] = []
    times: list[tuple[float, float]] = []
    beyond: list[str] = []
    outside: list[Flip] = []
    inside: list[Flip] = []
    largest_score = largest_map = 0.0
    near = 0

    def check(name: str, image: NDArray[np.uint8]) -> float:
        nonlocal largest_score, largest_map, near
        start = time.perf_counter()
        score, anomaly_map = native(model, image)
        middle = time.perf_counter()
        (other,), (other_map,), (rejected,) = run(image[None])
        times.append((middle - start, time.perf_counter() - middle))
        other = float(other)
        largest_score = max(largest_score, abs(other - score))
        largest_map = max(largest_map, float(np.abs(other_map - anomaly_map).max()))
        near += any(abs(score - threshold) <= 10 * tolerance for threshold in thresholds)
        if not abs(other - score) <= tolerance:
            beyond.append(name)
        for threshold in thresholds:
            flipped = (score > threshold) != (other > threshold)
            # What the graph itself says must be what its score says.
            flipped |= threshold == thresholds[0] and bool(rejected) != (other > threshold)
            if flipped:
                flip = Flip(name, score, other, threshold)
                (inside if abs(score - threshold) <= tolerance else outside).append(flip)
        return score

    for name, image in track(images, "compare", total=len(images)):
        scores.append(check(name, image))
    real = np.array(times[: len(images)]) * 1e3
    blends = list(_blends(model, images, scores, thresholds))
    for name, image in blends:
        check(name, image)
    percentiles = np.percentile(real, [50, 95], axis=0)
    return Parity(
        len(images), len(blends), near, tolerance, largest_score, largest_map,
        tuple(beyond), tuple(outside), tuple(inside),
        (float(percentiles[0, 0]), float(percentiles[1, 0])),
        (float(percentiles[0, 1]), float(percentiles[1, 1])),
    )  # fmt: skip


def native(model: nn.Module, image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
    """Score and map of a prepared image (S, S, 3), as torch computes them."""
    with torch.inference_mode():
        scores, maps, *_ = model(torch.from_numpy(image[None]))
    return float(scores[0]), maps[0].numpy()


def _blends(
    model: nn.Module,
    images: Sequence[tuple[str, NDArray[np.uint8]]],
    scores: Sequence[float],
    thresholds: Iterable[float],
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Mixtures of an image below and one above a threshold, halved until the score is as near as can be.

    Real images seldom lie at a threshold, and there alone a verdict can flip.
    """
    order = np.argsort(scores)
    for threshold in thresholds:
        below = [i for i in order if scores[i] <= threshold][::-1]
        above = [i for i in order if scores[i] > threshold]
        for low, high in list(zip(below, above, strict=False))[:_BLENDS]:
            shares = [0.0, 1.0]
            mixed = images[high][1]
            for _ in range(_STEPS):
                share = sum(shares) / 2
                mixed = _mix(images[low][1], images[high][1], share)
                shares[int(native(model, mixed)[0] > threshold)] = share
            yield f"{images[low][0]} + {shares[0]:.4f} x {images[high][0]}", mixed


def _mix(low: NDArray[np.uint8], high: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    mixed: NDArray[np.uint8] = np.rint((1 - share) * low + share * high.astype(np.float64)).astype(np.uint8)
    return mixed
