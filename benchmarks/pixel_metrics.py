"""Pixel AUROC and AUPRO of many maps: ours against scikit-learn's roc_auc_score on the same pixels.

    python benchmarks/pixel_metrics.py --maps 500 --side 512

Both run in this process, on the same arrays, single-threaded, in turn; the table gives medians of CPU
seconds, which a busy machine disturbs little. scikit-learn is given what it needs (all pixels in one array)
for free; ours holds everything, per-region overlap included.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics

KINDS = ("smooth", "half zero", "rounded", "tiny range", "huge outliers")


def cases(kind: str, count: int, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Masks and maps; half the images have one to three defects."""
    rng = np.random.default_rng(0)
    for number in range(count):
        mask = np.zeros((side, side), dtype=bool)
        for _ in range(number % 4 if number % 2 else 0):
            row, column = rng.integers(0, side * 3 // 4, 2)
            mask[row : row + side // 6, column : column + side // 8] = True
        scores = rng.standard_gamma(2.0, (side, side), dtype=np.float32) + mask * np.float32(2)
        if kind == "half zero":
            scores = np.maximum(scores - np.float32(1.7), np.float32(0))
        elif kind == "rounded":
            scores = np.round(scores * 10)
        elif kind == "tiny range":
            scores = np.float32(1000) + scores * np.float32(1e-3)
        elif kind == "huge outliers":
            scores *= np.where(
                rng.random(scores.shape, dtype=np.float32) < 1e-3, np.float32(1e30), np.float32(1)
            )
        yield mask, scores


def ours(masks: np.ndarray, maps: np.ndarray) -> PixelMetrics:
    metrics = PixelMetrics()
    for mask, scores in zip(masks, maps, strict=True):
        metrics.update(mask, scores)
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--maps", type=int, default=500)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    size = f"{arguments.maps} maps of {arguments.side} x {arguments.side}"
    print(f"{size}, median of {arguments.repeats}, numpy {np.__version__}\n")
    print("| scores | ours s | scikit-learn s | ratio | AUROC error | stated | AUPRO stated | our peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    shape = (arguments.maps, arguments.side, arguments.side)
    masks, maps = np.empty(shape, bool), np.empty(shape, np.float32)
    for kind in arguments.kinds:
        for place, (mask, scores) in enumerate(cases(kind, arguments.maps, arguments.side)):
            masks[place], maps[place] = mask, scores
        own, theirs = [], []
        for _ in range(arguments.repeats):
            start = time.process_time()
            found = ours(masks, maps).compute(0.3)
            own.append(time.process_time() - start)
            start = time.process_time()
            reference = roc_auc_score(masks.ravel(), maps.ravel())
            theirs.append(time.process_time() - start)
        tracemalloc.start()
        ours(masks, maps).compute(0.3)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        first, second = statistics.median(own), statistics.median(theirs)
        print(
            f"| {kind} | {first:.1f} | {second:.1f} | {second / first:.1f} | "
            f"{abs(found.pixel_auroc - reference):.1e} | {found.pixel_auroc_error:.1e} | "
            f"{found.aupro_error:.1e} | {peak:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
