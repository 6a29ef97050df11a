"""What defects that slipped into the nominal images do to a detector, and who notices them.

OMP_NUM_THREADS=1 python -m benchmarks.contamination CATEGORY --cache DIR --out FILE.json

For each seed a pool of defective test images, as many as 10 % contamination need, is drawn at random; they
and every test image of their groups leave the test set, which is so the same at every rate. The first of the
pool are then added to the nominal training images until they make up the rate. Each detector is fitted as
`reconpatch fit` does (holdout included: a defect may land there and raise the threshold). Measured are its
image AUROC and the share of test defects above its threshold; what `calibration.self_check` says of its own
training images, where asked beside scores by 5 folds (banks of the other folds); and, at rate 0, what the
arrival check says of the pool and of the nominal test images.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.calibration.calibrate import calibrate_fit, score_nominal
from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.calibration.self_check import check_nominal
from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.data.nominal_split import split_nominal
from reconpatch.device import choose_device
from reconpatch.evaluation.metrics.image_metrics import image_auroc
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures, extract_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.atomic_files import write_json
from reconpatch.training.fit_modulation import fit_modulation

RATES = (0.0, 0.01, 0.05, 0.1)
LIMITS = (4.0, 5.0, 6.0, 8.0, 10.0)
SHARES = (0.05, 0.1, 0.2)  # of the list that a person looks at, from the top
FOLDS = 5


def number_of(rate: float, nominal: int) -> int:
    """Defects that make up ``rate`` of all images beside ``nominal`` good ones."""
    return round(rate * nominal / (1 - rate))


def fit(features: PatchFeatures, settings: Settings) -> tuple[Any, Any]:
    trained = fit_modulation(features, settings)
    modulation = trained.modulation
    return modulation, fit_bank(features, modulation, settings)


def by_folds(
    features: PatchFeatures, groups: NDArray[np.str_], modulation: Any, settings: Settings
) -> NDArray[np.float64]:
    """Modified z of each image's score by a bank of the other folds' groups."""
    names, member = np.unique(groups, return_inverse=True)
    part = np.random.default_rng(settings.seed).permutation(len(names))[member] % FOLDS
    scores = np.empty(len(groups))
    for number in range(FOLDS):
        bank = fit_bank(features.subset(np.flatnonzero(part != number)), modulation, settings)
        asked = np.flatnonzero(part == number)
        scores[asked] = score_nominal(features.subset(asked), modulation, bank, settings)[0]
    return RobustStatistics.from_scores(scores).modified_z(scores).astype(np.float64)


def measure(z: NDArray[np.float64], slipped: NDArray[np.bool_]) -> dict[str, Any]:
    """Caught and false alarms at each limit, caught among the first images, and how well z ranks defects."""
    counts = {
        str(limit): [int((z[slipped] > limit).sum()), int((z[~slipped] > limit).sum())] for limit in LIMITS
    }
    first = np.argsort(-z, kind="stable")
    top = {str(share): int(slipped[first[: round(share * len(z))]].sum()) for share in SHARES}
    ranking = float(image_auroc(slipped.astype(int), z)) if slipped.any() else None
    numbers = {"slipped": int(slipped.sum()), "nominal": int((~slipped).sum())}
    return {"at": counts, "top": top, **numbers, "auroc": ranking}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=None, help="nominal training images, whole groups")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--folds", action="store_true", help="compare with scores by 5 folds, 5 more banks each"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    base = load_settings(None, ["threads=1", *given.overrides])
    table = build_manifest(given.category, base.data).reset_index(drop=True)
    extractor = PatchExtractor(base.features, choose_device(base.device))
    features = extract_features(image_paths(table), extractor, FeatureCache(given.cache))
    groups = table["group"].to_numpy(str)
    train, test = (np.flatnonzero(table["split"] == split) for split in ("train", "test"))
    label = table["label"].to_numpy(int)
    results = []
    for seed in given.seeds:
        settings = load_settings(None, {"seed": seed}, base=base)
        rng = np.random.default_rng(seed)
        nominal = train
        if given.images is not None:
            order = rng.permutation(np.unique(groups[train]))
            ends = np.cumsum([(groups[train] == name).sum() for name in order])
            nominal = train[np.isin(groups[train], order[: np.searchsorted(ends, given.images) + 1])]
        pool = rng.permutation(test[label[test] == 1])[: number_of(RATES[-1], len(nominal))]
        asked = test[~np.isin(test, pool) & ~np.isin(groups[test], groups[pool])]
        for rate in RATES:
            slipped = pool[: number_of(rate, len(nominal))]
            chosen = np.concatenate([nominal, slipped])
            of_fit, names = features.subset(chosen), groups[chosen]
            split = split_nominal(of_fit.paths, names.tolist(), of_fit.image_digests, settings)
            modulation, bank = fit(of_fit.subset(split.fit), settings)
            scores = score_nominal(features.subset(asked), modulation, bank, settings)[0]
            calibration = calibrate_fit(of_fit, names.tolist(), split, modulation, bank, settings)
            checked = check_nominal(of_fit, names.tolist(), modulation, bank)
            assert checked is not None
            assert calibration is not None
            is_slipped = np.arange(len(chosen)) >= len(nominal)
            found: dict[str, Any] = {
                "seed": seed,
                "rate": rate,
                "image_auroc": float(image_auroc(label[asked], scores)),
                "recall": float((scores[label[asked] == 1] > calibration.threshold.value).mean()),
                "test": [int((label[asked] == 0).sum()), int(label[asked].sum())],
                "self_check": measure(checked.z, is_slipped),
            }
            if given.folds:
                found["folds"] = measure(by_folds(of_fit, names, modulation, settings), is_slipped)
            if rate == 0:
                good = scores[label[asked] == 0]
                pooled = score_nominal(features.subset(pool), modulation, bank, settings)[0]
                found["arrivals"] = {
                    band: [int((pooled > limit).sum()), len(pooled), int((good > limit).sum()), len(good)]
                    for band, limit in (
                        ("review", calibration.review.value),
                        ("reject", calibration.threshold.value),
                    )
                }
            results.append(found)
            print(found, flush=True)
            write_json(given.out, {"category": given.category.name, "runs": results})


if __name__ == "__main__":
    main()
