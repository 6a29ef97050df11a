"""Search of the memory bank on the CPU: ours beside faiss's ``IndexFlatL2``, CPU seconds, in turn.

    OMP_NUM_THREADS=1 python -m benchmarks.search

784 queries, the patches of an image at 224 px. faiss is told to use BLAS (its default threshold would not).
"""

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import faiss
import numpy as np
import torch

from reconpatch.memory.search import NearestNeighbours

QUERIES, REPEATS = 784, 15
# Bank vectors and width; 152 is EfficientNet-Lite0's.
BANKS = ((300, 152), (1640, 152), (4660, 152), (9600, 152), (2000, 384))
NEIGHBOURS = (1, 9)


def cpu_milliseconds(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median of each, one after the other again and again."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS):
        for name, call in calls.items():
            started = time.process_time()
            call()
            spent[name].append(1000 * (time.process_time() - started))
    return {name: median(times) for name, times in spent.items()}


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 2048
    random = np.random.default_rng(0)
    print("| bank | width | neighbours | faiss ms | ours ms | ratio |\n|---|---|---|---|---|---|")
    for count, width in BANKS:
        vectors, queries = (random.normal(size=(rows, width)).astype(np.float32) for rows in (count, QUERIES))
        index, ours = faiss.IndexFlatL2(width), NearestNeighbours(vectors)
        index.add(vectors)
        for k in NEIGHBOURS:
            spent = cpu_milliseconds(
                {"faiss": partial(index.search, queries, k), "ours": partial(ours.search, queries, k)}
            )
            ratio = spent["faiss"] / spent["ours"]
            print(f"| {count} | {width} | {k} | {spent['faiss']:.1f} | {spent['ours']:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
