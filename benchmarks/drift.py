"""False alarms of the drift test on nominal streams, and how many images a disturbance needs to be seen.

OMP_NUM_THREADS=1 python benchmarks/drift.py CATEGORY [--streams 50] [--rate 0.05]

The detector is fitted on 200 nominal images. Of the other nominal ones each stream draws its reference and
its own images without replacement, and is checked every 25 images; `--rate` is for all checks together.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from reconpatch import ReConPatch
from reconpatch.data.appearance import measure_appearance
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.monitoring import find_drift
from reconpatch.settings import DataSettings

FIT, REFERENCE, STEP, LENGTH, DEFECTS = 200, 200, 25, 150, 150


def observe(detector: ReConPatch, images: list[np.ndarray]) -> pd.DataFrame:
    rows = []
    for number, (image, found) in enumerate(zip(images, detector.stream(images), strict=True)):
        looks = asdict(measure_appearance(Image.fromarray(image)))
        del looks["perceptual_hash"]
        rows.append({"group": str(number), "score": found.score, **looks})
    return pd.DataFrame(rows)


def first_alarm(reference: pd.DataFrame, stream: pd.DataFrame, rate: float, seed: int) -> int | None:
    for count in range(STEP, LENGTH + 1, STEP):
        if find_drift(reference, stream[:count], rate=rate, checks=LENGTH // STEP, seed=seed).alarm:
            return count
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("category", type=Path)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.05)
    given = parser.parse_args()
    table = build_manifest(given.category, DataSettings())
    random = np.random.default_rng(0)
    nominal = list(random.permutation(image_paths(table[table["label"] == 0])))
    defects = list(random.permutation(image_paths(table[table["label"] == 1])))[:DEFECTS]
    detector = ReConPatch(params={"threads": 1, "modulation.enabled": False}).fit(nominal[:FIT])
    images = [read_image(path) for path in nominal[FIT : FIT + REFERENCE + LENGTH + 100]]
    pool = observe(detector, images)
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "brightness +10 %": lambda image: (image * 1.1).clip(0, 255).astype(np.uint8),
        "blur, sigma 1.5": lambda image: gaussian_filter(image, (1.5, 1.5, 0)),
    }
    disturbed = {
        name: observe(detector, [change(image) for image in images]) for name, change in kinds.items()
    }
    bad = observe(detector, [read_image(path) for path in defects])
    print(f"{len(pool)} nominal images in the pool, {len(bad)} defects, rate {given.rate}")
    found: dict[str, list[int | None]] = {}
    for seed in range(given.streams):
        drawn = np.random.default_rng([1, seed])
        order = drawn.permutation(len(pool))
        reference, stream = pool.iloc[order[:REFERENCE]], pool.iloc[order[REFERENCE:][:LENGTH]]
        found.setdefault("nominal", []).append(first_alarm(reference, stream, given.rate, seed))
        for name, changed in disturbed.items():
            rows = changed.iloc[order[REFERENCE:][:LENGTH]]  # no image is in both
            found.setdefault(name, []).append(first_alarm(reference, rows, given.rate, seed))
        mixed = stream.reset_index(drop=True)
        places = np.flatnonzero(drawn.random(len(mixed)) < 0.05)
        mixed.loc[places] = bad.sample(len(places), random_state=seed).to_numpy()
        mixed = mixed.astype(pool.dtypes.to_dict())
        mixed["group"] = [str(i) for i in range(len(mixed))]
        found.setdefault("5 % defects", []).append(first_alarm(reference, mixed, given.rate, seed))
    for name, alarms in found.items():
        seen = sorted(one for one in alarms if one is not None)
        told = f"median {int(np.median(seen))}, last {seen[-1]} images" if seen else ""
        print(f"{name}: {len(seen)} of {len(alarms)} streams alarm {told}")


if __name__ == "__main__":
    main()
