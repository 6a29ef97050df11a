"""Coreset selection on real patch features, beside the textbook loop and anomalib's KCenterGreedy.

    python -m benchmarks.coreset CATEGORY [--other-python PYTHON]

Features are those of the default backbone, mapped to a wider space by a random isometry as an untrained
modulation does. Programs run in turn, each in a process of its own, reading features included and imports
left out. The loops of the others are measured on some steps, all of which cost the same, and extrapolated;
`--steps 0` runs them to the end. `--verify` proves each of our picks in float64: that no vector was farther.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.anomalib.machine import describe, run
from reconpatch.coreset.k_center import coreset_size, k_center_greedy
from reconpatch.data.images import read_image
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image
from reconpatch.settings import FeatureSettings

_OTHER = Path(__file__).parent / "anomalib" / "theirs.py"


def extract(category: Path, width: int) -> NDArray[np.float32]:
    """(N, width) patch features of the nominal training images."""
    settings = FeatureSettings()
    extractor = PatchExtractor(settings, torch.device("cpu"))
    paths = sorted(path for path in (category / "train" / "good").iterdir() if path.is_file())
    images = (prepare_image(read_image(path), settings)[None] for path in paths)
    features = np.concatenate([extractor(image)[0] for image in images]).astype(np.float32)
    if width == features.shape[1]:
        return features
    drawn = np.random.default_rng(0).normal(size=(width, features.shape[1]))
    isometry = np.linalg.qr(drawn)[0].astype(np.float32)
    return features @ isometry.T


def time_ours(features: NDArray[np.float32], size: int, output: Path) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    indices = k_center_greedy(features, size)
    found = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    np.save(output, indices)
    return found


def time_textbook(features: NDArray[np.float32], size: int, steps: int) -> dict[str, float]:
    """Time the loop as it is usually written: subtract the centre, norm, minimum, largest."""
    points = torch.from_numpy(features)
    nearest = torch.full((len(points),), torch.inf)
    index = 0
    steps = min(steps or size - 1, size - 1)
    started, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        nearest = torch.minimum(nearest, torch.linalg.norm(points - points[index], dim=1))
        index = int(nearest.argmax())
    share = steps / (size - 1)
    return {
        "seconds": (time.perf_counter() - started) / share,
        "cpu_seconds": (time.process_time() - cpu) / share,
    }


def largest_excess(features: NDArray[np.float32], indices: NDArray[np.int64]) -> float:
    """By how much, relative, any vector was farther from the centres than the one picked, in float64.

    Products in float64 are exact to about 1e-13 of the squared distances here; so should be the result.
    """
    points = torch.from_numpy(features).double()
    points -= points.mean(dim=0)
    norms = (points * points).sum(dim=1)
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64)
    excess = 0.0
    for start in range(0, len(indices) - 1, 32):
        centres = torch.from_numpy(indices[start : min(start + 32, len(indices) - 1)])
        squared = torch.addmm(norms, points[centres], points.T, alpha=-2) + norms[centres, None]
        for distances, picked in zip(squared, indices[start + 1 :], strict=False):
            torch.minimum(nearest, distances, out=nearest)
            excess = max(excess, float(nearest.max() / nearest[picked]) - 1)
    return excess


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("category", type=Path)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--other-python", type=Path, help="Python of an environment with anomalib")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--worker", choices=("ours", "textbook"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        torch.set_num_threads(arguments.threads)
        features = np.load(arguments.category)
        size = coreset_size(len(features), arguments.ratios[0])
        if arguments.worker == "ours":
            found = time_ours(features, size, arguments.output)
        else:
            found = time_textbook(features, size, arguments.steps)
        print(json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as scratch:
        compare(arguments, Path(scratch))


def compare(arguments: argparse.Namespace, scratch: Path) -> None:
    features = extract(arguments.category, arguments.width)
    np.save(scratch / "features.npy", features)
    machine = describe()
    print(arguments.category.name, machine["cpu"], f"{arguments.threads} threads", sep=", ", end="\n\n")
    print("| selected | program | wall s | CPU s | slower than ours, wall | CPU | largest excess |")
    print("|---|---|---|---|---|---|---|")
    for ratio in arguments.ratios:
        runs: dict[str, list[dict[str, float]]] = {}
        for _ in range(arguments.repeats):
            for name, command in _commands(arguments, scratch, ratio).items():
                runs.setdefault(name, []).append(run(command, arguments.threads, name))
        excess = largest_excess(features, np.load(scratch / "indices.npy")) if arguments.verify else None
        what = f"{coreset_size(len(features), ratio):,} of {len(features):,} x {features.shape[1]}"
        _print_rows(what, runs, excess)


def _print_rows(what: str, runs: dict[str, list[dict[str, float]]], excess: float | None) -> None:
    medians = {
        name: [statistics.median(one[key] for one in several) for key in ("seconds", "cpu_seconds")]
        for name, several in runs.items()
    }
    ours = medians["ours"]
    for name, (wall, cpu) in medians.items():
        cells = [what, name, f"{wall:.1f}", f"{cpu:.1f}", f"{wall / ours[0]:.0f}", f"{cpu / ours[1]:.0f}"]
        cells.append(f"{excess:.1e}" if name == "ours" and excess is not None else "")
        print("| " + " | ".join(cells) + " |", flush=True)


def _commands(arguments: argparse.Namespace, scratch: Path, ratio: float) -> dict[str, list[str]]:
    common = ["--threads", str(arguments.threads), "--steps", str(arguments.steps)]
    features = str(scratch / "features.npy")
    ours = [sys.executable, "-m", "benchmarks.coreset", features, "--ratios", str(ratio), *common]
    commands = {
        "ours": [*ours, "--worker", "ours", "--output", str(scratch / "indices.npy")],
        "textbook": [*ours, "--worker", "textbook"],
    }
    if arguments.other_python:
        other = [str(arguments.other_python), str(_OTHER), "coreset", "--input", features]
        commands["anomalib"] = [*other, "--ratio", str(ratio), *common]
    return commands


if __name__ == "__main__":
    main()
