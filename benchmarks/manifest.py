"""Seconds for the manifest of 5,000 images: built, built again, and after ten images changed.

python benchmarks/manifest.py IMAGE [--count N] [--workers N]

The images are IMAGE with a line of pixels of its own each, in the same size and format.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest
from reconpatch.settings import DataSettings


def write(pixels: np.ndarray, path: Path, seed: int) -> None:
    own = pixels.copy()
    own[0] = np.random.default_rng(seed).integers(0, 256, own[0].shape)
    Image.fromarray(own).save(path, compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("image", type=Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    pixels = read_image(given.image)
    with tempfile.TemporaryDirectory() as folder:
        good = Path(folder) / "part" / "train" / "good"
        good.mkdir(parents=True)
        for number in range(given.count):
            write(pixels, good / f"{number:05}{given.image.suffix}", number)
        time.sleep(3)  # files that were written just now are not remembered
        print(f"{given.count} images of {pixels.shape}, {given.workers} workers")
        for what in ("built", "built again", "after ten images changed"):
            if what.startswith("after"):
                for number in range(10):
                    write(pixels, good / f"{number:05}{given.image.suffix}", number + 10**6)
            start, busy = time.perf_counter(), time.process_time()
            table = build_manifest(
                good.parents[1], DataSettings(), workers=given.workers, cache=Path(folder) / "seen.json"
            )
            assert len(table) == given.count
            assert table["problem"].isna().all()
            print(f"{what}: {time.perf_counter() - start:.1f} s, {time.process_time() - busy:.1f} s of CPU")


if __name__ == "__main__":
    main()
