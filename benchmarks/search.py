"""Search of the memory bank on the CPU: ours beside faiss's ``IndexFlatL2``, CPU seconds, in turn.

    OMP_NUM_THREADS=1 python -m benchmarks.search

784 queries, the patches of an image at 224 px. faiss is told to use BLAS (its default threshold would not).
"""

import time
from functools import partial

import faiss
import numpy as np
import torch

from benchmarks.timing import in_turn
from reconpatch.model.nearest_neighbours import NearestNeighbours

QUERIES, REPEATS = 784, 15
# Bank vectors and width; 152 is EfficientNet-Lite0's.
BANKS = ((300, 152), (1640, 152), (4660, 152), (9600, 152), (2000, 384))
NEIGHBOURS = (1, 9)


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
            calls = {"faiss": partial(index.search, queries, k), "ours": partial(ours.search, queries, k)}
            seconds = in_turn(calls, REPEATS, clock=time.process_time)
            spent = {name: 1000 * value for name, value in seconds.items()}
            ratio = spent["faiss"] / spent["ours"]
            print(f"| {count} | {width} | {k} | {spent['faiss']:.1f} | {spent['ours']:.1f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
