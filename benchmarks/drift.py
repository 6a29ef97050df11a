"""False alarms of the drift test on nominal streams, and how many images a disturbance needs to be seen.

OMP_NUM_THREADS=1 python benchmarks/drift.py CATEGORY ... [--fit 200] [--reference 400] [--length 350]
    [--step 50] [--streams 50] [--rate 0.05] [--observed FILE] [--replace] [--only NAME ...]

The detector is fitted on some nominal images of the folders together. Of the other nominal ones each stream
draws its reference and its own images without replacement, and is checked after every `--step` images;
`--rate` is for all checks of a stream together. `--observed` keeps what the detector said of the images. With
`--replace` all is drawn with replacement: streams and references of any length, of a line whose images are
those of the pool in equal shares. `--only` names the kinds of streams.
"""

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter

from reconpatch import ReConPatch
from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.threshold import conformal_threshold
from reconpatch.data.image_statistics import measure_image_statistics
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.fitted_detector import FittedDetector
from reconpatch.line.monitoring.drift import find_drift
from reconpatch.settings import DataSettings

NOMINAL, DEFECTS = "nominal", "5 % defects"
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brightness +10 %": lambda image: (image * 1.1).clip(0, 255).astype(np.uint8),
    "blur, sigma 1.5": lambda image: gaussian_filter(image, (1.5, 1.5, 0)),
}


def main() -> None:
    given = arguments()
    if given.observed is not None and given.observed.is_file():
        seen = pd.read_parquet(given.observed)
    else:
        seen = observe_all(given.categories, given.fit)
        if given.observed is not None:
            seen.to_parquet(given.observed)
    counts = seen["kind"].value_counts()
    print(f"{counts[NOMINAL]} nominal images in the pool, {counts['defect']} defects, rate {given.rate}")
    print(f"reference {given.reference}, streams of {given.length}, a check every {given.step}")
    for name in given.only or (NOMINAL, *KINDS, DEFECTS):
        found = [first_alarm(name, seen, number, given) for number in range(given.streams)]
        alarms = sorted(count for count, _ in found if count is not None)
        named = pd.Series([what for count, what in found if count is not None], dtype=object).value_counts()
        told = ""
        if alarms:
            most = int(np.ceil(0.9 * len(found)))
            ninth = f"90 % by {alarms[most - 1]}" if len(alarms) >= most else "90 % not reached"
            told = f"median of those {int(np.median(alarms))}, {ninth}; {dict(named)}"
        print(f"{name}: {len(alarms)} of {len(found)} streams alarm; {told}")
        counts = range(given.step, given.length + 1, given.step)
        print("  by images:", {count: sum(one <= count for one in alarms) for count in counts}, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("categories", type=Path, nargs="+")
    parser.add_argument("--fit", type=int, default=200)
    parser.add_argument("--reference", type=int, default=400)
    parser.add_argument("--length", type=int, default=350)
    parser.add_argument("--step", type=int, default=50)
    parser.add_argument("--streams", type=int, default=50)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--observed", type=Path)
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--only", nargs="+")
    return parser.parse_args()


def observe_all(categories: list[Path], fit: int) -> pd.DataFrame:
    """Every image that the detector was not fitted on, as it is and disturbed: an image and kind a row."""
    random = np.random.default_rng(0)
    tables = [build_manifest(category, DataSettings()) for category in categories]
    good, bad = (
        [path for table in tables for path in image_paths(table[table["label"] == label])] for label in (0, 1)
    )
    nominal, defects = list(random.permutation(good)), list(random.permutation(bad))
    detector = ReConPatch(params={"threads": 1, "modulation.enabled": False}).fit(nominal[:fit])
    parts = [
        observe(detector, NOMINAL, nominal[fit:], lambda image: image),
        observe(detector, "defect", defects, lambda image: image),
        *(observe(detector, name, nominal[fit:], change) for name, change in KINDS.items()),
    ]
    return pd.concat([row for part in parts for row in part], ignore_index=True)


def observe(
    detector: FittedDetector, kind: str, paths: Iterable[Path], change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[pd.DataFrame]:
    for number, path in enumerate(paths):
        image = change(read_image(Path(path)))
        statistics = measure_image_statistics(Image.fromarray(image))
        (found,) = detector.predict(image)
        yield pd.DataFrame(
            {
                "kind": kind,
                "image": number,
                "group": f"{kind} {number}",
                "score": found.score,
                "brightness": statistics.brightness,
                "contrast": statistics.contrast,
                "sharpness": statistics.sharpness,
                "embedding": [found.embedding],
            }
        )


def first_alarm(
    name: str, seen: pd.DataFrame, number: int, given: argparse.Namespace
) -> tuple[int | None, str]:
    """After how many images a stream alarms, None when it does not, and which statistic moved most."""
    drawn = np.random.default_rng([1, number])
    nominal = seen[seen["kind"] == NOMINAL]
    needed = given.reference + given.length
    order = drawn.integers(len(nominal), size=needed) if given.replace else drawn.permutation(len(nominal))
    reference = nominal.iloc[order[: given.reference]]
    places = order[given.reference :][: given.length]  # no image is on both sides, unless they are put back
    stream = nominal.iloc[places] if name in (NOMINAL, DEFECTS) else seen[seen["kind"] == name].iloc[places]
    if name == DEFECTS:
        defects = seen[seen["kind"] == "defect"]
        spoiled = np.flatnonzero(drawn.random(len(stream)) < 0.05)
        rows = [stream.iloc[[i]] for i in range(len(stream))]
        bad = drawn.permutation(len(defects))
        for place, chosen in zip(spoiled, np.resize(bad, max(len(bad), len(spoiled))), strict=False):
            rows[place] = defects.iloc[[chosen]]
        stream = pd.concat(rows)
    if given.replace:  # the same image, drawn twice, stands for two like it
        reference, stream = (
            table.assign(group=[f"{side} {number}" for number in range(len(table))])
            for side, table in (("reference", reference), ("stream", stream))
        )
    threshold = conformal_threshold(NominalScores.from_scores(reference["score"])).value
    reference, stream = (
        table.assign(is_anomalous=table["score"] > threshold) for table in (reference, stream)
    )
    level = given.rate * given.step / given.length
    for count in range(given.step, given.length + 1, given.step):
        found = find_drift(reference, stream[:count], level=level, seed=number, latest=given.step)
        if found.alarm:
            return count, min(found.shifts, key=found.shifts.__getitem__)
    return None, ""


if __name__ == "__main__":
    main()
