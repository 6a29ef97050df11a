"""Does the gate let detectors get worse step by step? Ten candidates in a row, each a little worse.

    OMP_NUM_THREADS=1 python -m benchmarks.gate_ratchet [--sets 40]

Each candidate's true AUROC is lower than that of the champion by 0.004, on scores that agree with the
champion's but for a little noise. A candidate that the gate calls better or not worse becomes champion. The
gate compares it with the champion alone, or with the best champion before as well.
"""

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from reconpatch.evaluation.comparison import Comparison, Conclusion, compare_images
from reconpatch.evaluation.metrics.image_metrics import image_auroc
from tasks.registry.former_champions import is_stricter

START, STEP, CANDIDATES = 0.95, 0.004, 10
_IMAGES = 300  # of each class
_NOISE = 0.02  # share of a score's variance that a detector has of its own
PASSES = (Conclusion.BETTER, Conclusion.NOT_WORSE)


def scores(
    auroc: float, shared: NDArray[np.float64], labels: NDArray[np.bool_], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Scores of a detector whose true AUROC is ``auroc``."""
    own = rng.normal(size=labels.size)
    noise = np.sqrt(1 - _NOISE) * shared + np.sqrt(_NOISE) * own
    return noise + labels * norm.ppf(auroc) * np.sqrt(2)


def ratchet(seed: int, *, remember: bool, resamples: int = 1000) -> list[float]:
    """True AUROCs of the champions, in order, on one test set."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([False, True], _IMAGES)
    shared, groups = rng.normal(size=labels.size), np.arange(labels.size)
    champions = [(START, scores(START, shared, labels, rng))]
    for _ in range(CANDIDATES):
        auroc = champions[-1][0] - STEP
        candidate = scores(auroc, shared, labels, rng)

        def compared(other: NDArray[np.float64], candidate: NDArray[np.float64] = candidate) -> Comparison:
            return compare_images(labels, candidate, other, groups, resamples=resamples)

        verdict = compared(champions[-1][1])
        if remember and champions[:-1]:
            best = max((one for _, one in champions[:-1]), key=lambda one: image_auroc(labels, one))
            found = compared(best)
            verdict = found if is_stricter(found, verdict) else verdict
        if verdict.conclusion in PASSES:
            champions.append((auroc, candidate))
    return [auroc for auroc, _ in champions]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=40)
    sets = parser.parse_args().sets
    print("| compared with | champions that followed | last AUROC, mean | lowest | loss above the margin |")
    print("|---|---|---|---|---|")
    for name, remember in (("the champion", False), ("the best champion before, too", True)):
        found = [ratchet(seed, remember=remember) for seed in range(sets)]
        last = np.array([one[-1] for one in found])
        beyond = np.mean(START - last > 0.01 + 1e-9)
        moves = np.mean([len(one) - 1 for one in found])
        print(f"| {name} | {moves:.1f} | {last.mean():.3f} | {last.min():.3f} | {100 * beyond:.0f} % |")


if __name__ == "__main__":
    main()
