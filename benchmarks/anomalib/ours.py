"""Our half of the comparison: the same commands as `theirs`, each printing one line of JSON.

A fit needs no command of its own: it is `reconpatch fit`.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from reconpatch.coreset.k_center import coreset_size, k_center_greedy
from reconpatch.device import limit_threads
from reconpatch.loading import load

_WARM_UP = 32


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def coreset(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time `k_center_greedy`, from the array to the indices."""
    features = np.load(arguments.input)
    size = coreset_size(len(features), arguments.ratio)
    started, cpu = time.perf_counter(), cpu_seconds()
    indices = k_center_greedy(features, size, seed=0)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    if arguments.output:
        np.save(arguments.output, indices)
    return {"seconds": seconds, "cpu_seconds": cpu, "size": size}


def predict(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time score and map of image files, after a warm-up on a few of them."""
    detector = load(arguments.model, device="cpu", threads=arguments.threads)
    paths = arguments.paths.read_text(encoding="utf-8").split("\n")
    detector.predict(paths[:_WARM_UP])
    started, cpu = time.perf_counter(), cpu_seconds()
    predictions = detector.predict(paths)
    seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu
    scores = np.array([prediction.score for prediction in predictions])
    maps = np.stack([prediction.anomaly_map for prediction in predictions])
    np.savez(arguments.output, scores=scores, maps=maps)
    return {"seconds": seconds, "cpu_seconds": cpu, "images": len(paths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("coreset", "predict"))
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--paths", type=Path)
    parser.add_argument("--ratio", type=float, default=0.01)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    print(json.dumps({"coreset": coreset, "predict": predict}[arguments.command](arguments)))


if __name__ == "__main__":
    main()
