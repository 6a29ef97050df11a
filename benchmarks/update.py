"""An update with a few more images against a full refit: seconds, image AUROC and agreement of the scores.

    python benchmarks/update.py CATEGORY --base 200 --new 10

The images are drawn by whole groups, anew for each seed. A detector is fitted on the base; each update starts
from its folder and its feature cache, from which the new images are missing; the refit on base and new images
starts from nothing. Every step counts from the image files to a saved folder, loading the network included,
in CPU seconds of all threads, which other work on the machine changes little.

All are scored on the test images, and compared with the refit of the same seed: difference of image AUROC,
Spearman's rank correlation of scores. An update and a refit hold out different images; `--set
calibrate.holdout=0` makes both use all. How far a refit is from one that differs in its seed alone (another
order of patches, another first centre) is the row `refit, other seed`.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from reconpatch import ReConPatch
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.device import usable_cores
from reconpatch.evaluation.metrics.image_metrics import image_auroc
from reconpatch.fitted_detector import FittedDetector
from reconpatch.loading import load
from reconpatch.settings import Settings, load_settings

_SEED_OFFSET = 1000
FULL, OTHER = "refit", "refit, other seed"


@dataclass(frozen=True)
class Run:
    """One detector of one seed: CPU seconds to make it, its test scores, what it holds."""

    seconds: float
    scores: np.ndarray
    summary: str


def draw(table: pd.DataFrame, counts: list[int], seed: int) -> list[pd.DataFrame]:
    """Disjoint parts of the nominal training rows, about ``counts`` long, no group in two of them."""
    train = table[(table["split"] == "train") & (table["label"] == 0)]
    groups = np.random.default_rng(seed).permutation(train["group"].unique())
    parts, start = [], 0
    for count in counts:
        stop = start
        while stop < len(groups) and train["group"].isin(groups[start:stop]).sum() < count:
            stop += 1
        parts.append(train[train["group"].isin(groups[start:stop])].head(count))
        start = stop
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("category", type=Path)
    parser.add_argument("--base", type=int, default=200)
    parser.add_argument("--new", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    arguments = parser.parse_args()
    settings = [load_settings(None, [*arguments.overrides, f"seed={s}"]) for s in range(arguments.seeds)]
    table = build_manifest(arguments.category, settings[0].data)
    test = table[table["split"] == "test"]
    labels = test["label"].to_numpy(dtype=int)
    with tempfile.TemporaryDirectory() as scratch:
        runs = [
            run_seed(Path(scratch), each, *draw(table, [arguments.base, arguments.new], each.seed), test)
            for each in settings
        ]
    print(
        f"{usable_cores()} cores; {arguments.category.name}, {arguments.base} + {arguments.new} images, "
        f"{len(test)} test images; {arguments.seeds} seeds; {', '.join(arguments.overrides)}\n"
    )
    print("| detector | median CPU s | of the refit | image AUROC | minus the refit's | rank correlation |")
    print("|---|---|---|---|---|---|")
    for name in runs[0]:
        pairs = [(run[name].scores, run[FULL].scores) for run in runs]
        report(name, [run[name].seconds for run in runs], [run[FULL].seconds for run in runs], labels, pairs)
    for name in runs[0]:
        print(f"\n{name}: " + "; ".join(run[name].summary for run in runs), end="")
    print()


def run_seed(
    work: Path, settings: Settings, base: pd.DataFrame, new: pd.DataFrame, test: pd.DataFrame
) -> dict[str, Run]:
    def fit(name: str, rows: pd.DataFrame) -> None:
        seed = settings.seed + _SEED_OFFSET if name == OTHER else settings.seed
        chosen = settings.model_copy(update={"seed": seed})
        ReConPatch(settings=chosen, cache=work / f"cache-{name}").fit(rows).save(work / name)

    def update(name: str) -> None:
        detector = load(work / "base", threads=settings.threads, cache=work / f"cache-{name}")
        detector.update(new, mode=name).save(work / name)  # type: ignore[arg-type]

    runs = {}
    for name in ("base", "frozen", "fine-tune", FULL, OTHER):
        if name == "fine-tune" and not settings.modulation.enabled:
            continue
        shutil.rmtree(work / f"cache-{name}", ignore_errors=True)
        is_update = name in ("frozen", "fine-tune")
        if is_update:
            shutil.copytree(work / "cache-base", work / f"cache-{name}")
        start = time.process_time()
        if is_update:
            update(name)
        else:
            fit(name, base if name == "base" else pd.concat([base, new]))
        seconds = time.process_time() - start
        detector = load(work / name, threads=settings.threads, cache=work / "cache-test")
        scores = np.array([prediction.score for prediction in detector.stream(image_paths(test))])
        runs[name] = Run(seconds, scores, summary_of(detector))
    return runs


def summary_of(detector: FittedDetector) -> str:
    calibration = detector.calibration
    known = f"{len(detector.parts.training_set)} images, bank {len(detector.parts.bank)}"
    if calibration is None:
        return f"{known}, not calibrated"
    return f"{known}, threshold {calibration.threshold.value:.3f} from {calibration.threshold.n}"


def report(
    name: str,
    seconds: list[float],
    full: list[float],
    labels: np.ndarray,
    pairs: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    """One line of the table; ``pairs`` are scores of a detector and of the refit that it is compared with."""
    aurocs = [image_auroc(labels, mine) for mine, _ in pairs]
    differences = [image_auroc(labels, mine) - image_auroc(labels, theirs) for mine, theirs in pairs]
    correlation = np.mean([spearmanr(mine, theirs).statistic for mine, theirs in pairs])
    timing = f"{np.median(seconds):.1f} | {np.median(seconds) / np.median(full):.1%}"
    error = np.std(differences, ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else np.nan
    print(
        f"| {name} | {timing} | {np.mean(aurocs):.4f} | mean {np.mean(differences):+.4f} +- {error:.4f}, "
        f"largest {np.abs(differences).max():.4f} | {correlation:.4f} |"
    )


if __name__ == "__main__":
    main()
