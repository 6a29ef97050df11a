"""Seconds for the manifest of 5,000 images: built, built again, and after ten images changed.

python benchmarks/manifest.py FOLDER [--count N] [--side S] [--workers N] [--work DIR]

The images are crops of those in FOLDER at seeded places, of S pixels a side, as PNG.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.data.file_listing import expand_images
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest
from reconpatch.settings import DataSettings


def write(sources: list[Path], side: int, path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    pixels = read_image(sources[random.integers(len(sources))])
    top, left = (int(random.integers(length - side + 1)) for length in pixels.shape[:2])
    Image.fromarray(pixels[top : top + side, left : left + side]).save(path, compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--side", type=int, default=880)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=None, help="where the images are written, then removed")
    given = parser.parse_args()
    sources = expand_images([given.folder])
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        good = Path(folder) / "part" / "train" / "good"
        good.mkdir(parents=True)
        for number in range(given.count):
            write(sources, given.side, good / f"{number:05}.png", number)
        size = sum(path.stat().st_size for path in good.iterdir()) / 2**30
        free = shutil.disk_usage(folder).free / 2**30
        print(f"{given.count} images of {given.side} pixels, {size:.2f} GiB ({free:.0f} free)", flush=True)
        time.sleep(3)  # files that were written just now are not remembered
        for what in ("built", "built again", "after ten images changed"):
            if what.startswith("after"):
                for number in range(10):
                    write(sources, given.side, good / f"{number:05}.png", number + 10**6)
            start, busy = time.perf_counter(), os.times()
            table = build_manifest(
                good.parents[1], DataSettings(), workers=given.workers, cache=Path(folder) / "seen.json"
            )
            assert len(table) == given.count
            assert table["problem"].isna().all()
            wall, used = time.perf_counter() - start, os.times()
            cpu = sum(getattr(used, name) - getattr(busy, name) for name in ("user", "system"))
            cpu += sum(
                getattr(used, f"children_{name}") - getattr(busy, f"children_{name}")
                for name in ("user", "system")
            )
            print(f"{what}: {wall:.1f} s, {cpu:.1f} s of CPU, load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
