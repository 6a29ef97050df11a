"""Does the threshold keep its promise? Re-splits of a category's nominal images by group.

    OMP_NUM_THREADS=1 python benchmarks/false_reject_rate.py CATEGORY --cache DIR

The nominal images of train and test are pooled. Each of a few fits takes half of the groups, drawn anew; the
other half is scored by it and re-split by group many times into a calibration and a test part. A false-reject
rate is that of an image drawn from a group drawn from the test part. Its band is central 95 % beta-binomial,
in two forms: `one a group` keeps one image of each group, where the law is exact; `all images` is what ships,
and the law, which takes a group for one observation, is a little too wide for it. Crossfit is judged on the
same fits: calibrated on the fit's own groups, the detector of all of these scores the other half.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import betabinom

from reconpatch.calibration.calibrate import crossfit, score_nominal
from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.threshold import conformal_threshold
from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures, extract_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import Settings, load_settings
from reconpatch.training.fit_modulation import fit_modulation


def nominal(category: Path, settings: Settings, cache: Path) -> tuple[PatchFeatures, NDArray[np.str_]]:
    """Features and groups of every nominal image, train and test."""
    table = build_manifest(category, settings.data)
    rows = table[table["label"] == 0]
    extractor = PatchExtractor(settings.features, choose_device(settings.device))
    features = extract_features(image_paths(rows), extractor, FeatureCache(cache))
    return features, rows["group"].to_numpy(str)


def group_rate(scores: NDArray[np.float64], groups: NDArray[np.str_], threshold: float) -> float:
    """Share rejected, each group counted once."""
    return float(pd.Series(scores > threshold).groupby(groups).mean().mean())


def band(calibration: int, test: int, rate: float) -> tuple[float, float]:
    """Central 95 % of the rate among ``test`` groups at a threshold from ``calibration`` groups."""
    rejected = calibration + 1 - math.ceil((calibration + 1) * (1 - rate) - 1e-9)
    law = betabinom(test, rejected, calibration + 1 - rejected)
    return law.ppf(0.025) / test, law.ppf(0.975) / test


def resplit(
    scores: NDArray[np.float64], groups: NDArray[np.str_], rate: float, rng: np.random.Generator
) -> dict[str, tuple[float, bool]]:
    """One re-split: per form the rate, and whether it lies in its band."""
    names = rng.permutation(np.unique(groups))
    half = len(names) // 2
    low, high = band(half, len(names) - half, rate)
    found = {}
    order = rng.permutation(len(groups))
    first = order[np.unique(groups[order], return_index=True)[1]]  # one image of each group at random
    for form, rows in (("one a group", first), ("all images", np.arange(len(groups)))):
        kept, calibrates = groups[rows], np.isin(groups[rows], names[:half])
        held = NominalScores.from_scores(scores[rows][calibrates], kept[calibrates].tolist())
        value = conformal_threshold(held, rate).value
        seen = group_rate(scores[rows][~calibrates], kept[~calibrates], value)
        found[form] = seen, low - 1e-12 <= seen <= high + 1e-12
    return found


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--fits", type=int, default=10)
    parser.add_argument("--resplits", type=int, default=200, help="over all fits")
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--crossfit-fits", type=int, default=3)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    settings = load_settings(None, ["threads=1", *given.overrides])
    features, groups = nominal(given.category, settings, given.cache)
    names = np.unique(groups)
    half = len(names) - len(names) // 2
    print(
        f"{len(groups)} nominal images, {len(names)} groups: {half // 2} calibrate, {half - half // 2} test"
    )
    rows: list[dict[str, tuple[float, bool]]] = []
    halves = []
    for number in range(given.fits):
        rng = np.random.default_rng(number)
        fit = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        of_fit = features.subset(np.flatnonzero(fit))
        trained = fit_modulation(of_fit, settings)
        modulation = trained.modulation
        bank = fit_bank(of_fit, modulation, settings)
        scores, *_ = score_nominal(features.subset(np.flatnonzero(~fit)), modulation, bank, settings)
        scores = scores.astype(np.float64)
        halves.append((fit, scores))
        rows += [resplit(scores, groups[~fit], given.rate, rng) for _ in range(given.resplits // given.fits)]
        print_table(rows, number + 1)
    for number, (fit, scores) in enumerate(halves[: given.crossfit_fits]):
        cross = load_settings(None, {"calibrate.false_reject_rate": given.rate}, base=settings)
        calibration = crossfit(features.subset(np.flatnonzero(fit)), groups[fit].tolist(), cross)
        assert calibration is not None
        exact = conformal_threshold(NominalScores.from_scores(scores, groups[~fit].tolist()), given.rate)
        rate = group_rate(scores, groups[~fit], calibration.threshold.value)
        print(
            f"crossfit {number}: rejects {rate:.4f}; "
            f"threshold {calibration.threshold.value:.4f}, of the other half itself {exact.value:.4f}",
            flush=True,
        )


def print_table(rows: list[dict[str, tuple[float, bool]]], fits: int) -> None:
    """What the re-splits so far say."""
    print(f"{len(rows)} re-splits of {fits} fits")
    print("| form | mean rate | standard error over re-splits | smallest | largest | in the band |")
    print("|---|---|---|---|---|---|")
    for form in rows[0]:
        rates = np.array([row[form][0] for row in rows])
        inside = np.mean([row[form][1] for row in rows])
        error = rates.std(ddof=1) / math.sqrt(len(rates))
        print(
            f"| {form} | {rates.mean():.4f} | {error:.4f} | {rates.min():.4f} | {rates.max():.4f} "
            f"| {100 * inside:.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
