"""Peak memory of a whole fit, as the number of nominal images grows and the bank does not.

    python benchmarks/memory.py CATEGORY --counts 500 5000 --max-bank 2000

Each count gets as many distinct random crops of the category's nominal images, written to a scratch folder
as PNG files. `reconpatch fit` runs on each in a process of its own. The peak is the largest sum, over that
process and its descendants, of their resident memory, sampled 20 times a second; features go to disk.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.data.training_images import training_images
from reconpatch.device import usable_cores
from reconpatch.settings import DataSettings

_MIB = 1 << 20
_EVERY_SECONDS = 0.05


@dataclass(frozen=True)
class Fit:
    """Peak resident bytes of a fit's process tree and its seconds."""

    peak: int
    seconds: float


def write_crops(category: Path, folder: Path, count: int, side: int) -> None:
    """Distinct square crops of 60 to 100 % of the shorter side, in ``folder/train/good``."""
    sources = training_images(category, DataSettings()).paths
    (folder / "train" / "good").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        with Image.open(sources[number % len(sources)]) as opened:
            image = opened.convert("RGB")
        edge = int(min(image.size) * rng.uniform(0.6, 1.0))
        left, top = (int(rng.integers(0, length - edge + 1)) for length in image.size)
        crop = image.resize((side, side), box=(left, top, left + edge, top + edge))
        crop.save(folder / "train" / "good" / f"{number:05}.png", compress_level=1)


def measured_fit(category: Path, folder: Path, overrides: list[str]) -> Fit:
    command = [sys.executable, "-c", "from reconpatch.cli import main; main()", "fit", str(category)]
    command += ["--out", str(folder / "model"), "--cache", str(folder / "cache")]
    for override in overrides:
        command += ["--set", override]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(resident_bytes, tree(process.pid))))
            time.sleep(_EVERY_SECONDS)
    if process.returncode:
        sys.exit(f"the fit failed with exit status {process.returncode}")
    return Fit(peak, time.perf_counter() - start)


def tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(children).split():
            yield from tree(int(child))


def resident_bytes(pid: int) -> int:
    lines = [line for line in _read(Path(f"/proc/{pid}/status")).splitlines() if line.startswith("VmRSS:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("category", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[500, 5000])
    parser.add_argument("--max-bank", type=int, default=2000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    overrides = [f"coreset.max_bank={arguments.max_bank}", *arguments.overrides]
    print(f"{usable_cores()} cores; crops of {arguments.category.name}; {', '.join(overrides)}\n")
    print("| images | peak MiB | of the first | seconds |\n|---|---|---|---|", flush=True)
    first = None
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_crops(arguments.category, folder / "images", count, arguments.side)
            fit = measured_fit(folder / "images", folder, overrides)
        first = first or fit.peak
        print(
            f"| {count} | {fit.peak / _MIB:.0f} | {fit.peak / first:.2f} | {fit.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
