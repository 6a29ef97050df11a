"""What training f costs: the default schedule, and the paper's 120 epochs, on the same patches.

    python -m benchmarks.training_cost CATEGORY [--images 200] [--schedules default paper-schedule]

Seconds of the clock and of the CPU of `train_modulation` alone, the features already in memory. On the CPU it
takes one thread.
"""

import argparse
import time
from pathlib import Path

import torch

from benchmarks.nominal import nominal_patches
from reconpatch.evaluation.speed import describe_hardware
from reconpatch.settings import load_settings
from reconpatch.training.training_loop import train_modulation

CPU = torch.device("cpu")
DEFAULT = "default"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", type=Path)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--schedules", nargs="+", default=[DEFAULT, "paper-schedule"])
    given = parser.parse_args()
    settings = load_settings(None, {})
    features = nominal_patches(given.category, given.images, settings)
    images, _, width = features.shape
    rows = features.reshape(-1, width)
    print(f"{images} images, {len(rows):,} patches of width {width}, {describe_hardware(CPU)}")
    print("| schedule | steps | clock s | CPU s |\n|---|---|---|---|")
    for name in given.schedules:
        modulation = load_settings(None, {}, preset=None if name == DEFAULT else name).modulation
        clock, cpu = time.perf_counter(), time.process_time()
        steps = train_modulation(rows, modulation, seed=0).history[-1].step
        clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
        print(f"| {name} | {steps:,} | {clock:.1f} | {cpu:.1f} |", flush=True)


if __name__ == "__main__":
    main()
