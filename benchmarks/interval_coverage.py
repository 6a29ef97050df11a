"""How often do the 95 % intervals hold the truth, and how wide are they? Simulated test sets.

    OMP_NUM_THREADS=1 python -m benchmarks.interval_coverage [--draws 2000]

AUROC: two normal distributions, optionally with another spread of the defective images; images come in
groups whose members share a part of their score. Shares: one Bernoulli draw an image, its probability
beta-distributed over the groups. Beside the intervals in use stand the percentile bootstrap by group (with a
tenth of the draws) and DeLong's interval of the AUROC on the logit scale with Obuchowski's variance, Wilson's
of the share on the effective number of images. Where a method gives no interval it counts as a miss.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from reconpatch.evaluation.metrics.bootstrap import clusters, draw_groups, weighted_auroc
from reconpatch.evaluation.metrics.image_metrics import placements
from reconpatch.evaluation.metrics.intervals import auroc_interval, share_interval

Interval = Callable[..., tuple[float, float]]
_NONE = (np.nan, np.nan)
_RESAMPLES = 500
# nominal and defective images, AUROC, images a group, share of the variance within groups that they have in
# common, spread of the defective images over that of the nominal ones.
AUROCS = (
    (20, 63, 0.95, 1, 0.0, 1.0),
    (20, 63, 0.95, 1, 0.0, 1.5),
    (20, 63, 0.95, 1, 0.0, 0.6),
    (40, 40, 0.98, 1, 0.0, 1.0),
    (40, 40, 0.98, 1, 0.0, 2.0),
    (20, 63, 0.99, 1, 0.0, 1.0),
    (100, 100, 0.80, 1, 0.0, 1.0),
    (60, 63, 0.95, 3, 0.7, 1.0),
    (60, 189, 0.95, 3, 0.7, 1.0),
    (120, 120, 0.98, 3, 0.7, 1.0),
    (100, 100, 0.80, 4, 0.8, 1.0),
    (60, 60, 0.90, 10, 0.5, 1.0),
)
# groups, images a group, share, correlation within a group.
SHARES = (
    (63, 1, 0.05, 0.0),
    (63, 1, 0.95, 0.0),
    (20, 1, 0.05, 0.0),
    (100, 1, 0.01, 0.0),
    (63, 1, 0.5, 0.0),
    (21, 3, 0.05, 0.3),
    (63, 3, 0.05, 0.3),
    (63, 3, 0.05, 0.7),
    (63, 3, 0.05, 1.0),
    (30, 4, 0.3, 0.5),
    (12, 10, 0.1, 0.2),
)


def scored(
    nominal: int,
    defective: int,
    auroc: float,
    size: int,
    common: float,
    spread: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.intp]]:
    """Labels, scores and groups of one test set whose true AUROC is ``auroc``."""
    noise, groups = [], []
    for images in (nominal, defective):
        member = np.arange(images) // size
        shared = rng.normal(size=member[-1] + 1)[member]
        noise.append(np.sqrt(common) * shared + np.sqrt(1 - common) * rng.normal(size=images))
        groups.append(member + nominal * len(groups))
    shift = norm.ppf(auroc) * np.hypot(1, spread)
    labels = np.repeat([False, True], [nominal, defective])
    return labels, np.concatenate([noise[0], shift + spread * noise[1]]), np.concatenate(groups)


def judged(
    groups: int, size: int, share: float, common: float, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Verdicts and groups of one test set whose true share is ``share``."""
    if common == 1:
        rates = (rng.random(groups) < share).astype(float)
    elif common == 0:
        rates = np.full(groups, share)
    else:
        strength = (1 - common) / common
        rates = rng.beta(share * strength, (1 - share) * strength, groups)
    member = np.repeat(np.arange(groups), size)
    return rng.random(member.size) < rates[member], member


def percentile_auroc(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], groups: NDArray[np.intp]
) -> tuple[float, float]:
    """The percentile bootstrap by group; none where the classes do not overlap."""
    member, count = clusters(groups, labels.shape)
    draws = draw_groups(labels, member, count, _RESAMPLES, np.random.default_rng(0))[:, member]
    return _percentiles(weighted_auroc(labels, scores, draws))


def logit_auroc(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], groups: NDArray[np.intp]
) -> tuple[float, float]:
    """DeLong's interval on the logit scale, the variance by group; none where the classes do not overlap."""
    member, count = clusters(groups, labels.shape)
    placed = placements(labels, scores)
    area, variance = float(placed[labels].mean()), 0.0
    if not 0 < area < 1:
        return _NONE
    for rows in (labels, ~labels):
        sums = np.bincount(member[rows], placed[rows] - area, count)
        found = np.unique(member[rows]).size
        variance += found / (found - 1) * float((sums**2).sum()) / rows.sum() ** 2
    reach = norm.ppf(0.975) * np.sqrt(variance) / (area * (1 - area))
    return float(expit(logit(area) - reach)), float(expit(logit(area) + reach))


def percentile_share(hits: NDArray[np.bool_], groups: NDArray[np.intp]) -> tuple[float, float]:
    """The percentile bootstrap by group; none where all verdicts are equal."""
    member, count = clusters(groups, hits.shape)
    rng = np.random.default_rng(0)
    draws = draw_groups(np.zeros_like(hits), member, count, _RESAMPLES, rng)
    return _percentiles(draws @ np.bincount(member, hits) / (draws @ np.bincount(member)))


def wilson_share(hits: NDArray[np.bool_], groups: NDArray[np.intp]) -> tuple[float, float]:
    """Wilson's interval on the number of images over the design effect."""
    sizes, share, quantile = np.bincount(groups), hits.mean(), norm.ppf(0.975)
    effect = float((sizes**2).sum() / sizes.sum())
    if 0 < share < 1:
        sums = np.bincount(groups, hits - share)
        effect = sizes.size / (sizes.size - 1) * (sums**2).sum() / hits.size / (share * (1 - share))
    images = hits.size / max(effect, 1.0)
    middle = (share + quantile**2 / 2 / images) / (1 + quantile**2 / images)
    reach = np.sqrt(share * (1 - share) / images + quantile**2 / 4 / images**2)
    reach *= quantile / (1 + quantile**2 / images)
    return float(middle - reach), float(middle + reach)


def _percentiles(values: NDArray[np.float64]) -> tuple[float, float]:
    if np.ptp(values) == 0:
        return _NONE
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def coverage(
    method: Interval, draw: Callable[[np.random.Generator], tuple], truth: float, draws: int
) -> tuple[float, float]:
    """Share of ``draws`` test sets whose interval holds ``truth``, and the intervals' mean width."""
    rng = np.random.default_rng(1)
    found = np.array([method(*draw(rng)) for _ in range(draws)])
    held = (found[:, 0] <= truth) & (truth <= found[:, 1])
    return float(held.mean()), float(np.nanmean(found[:, 1] - found[:, 0]))


def tables(draws: int) -> Iterator[str]:
    """Coverage and mean width, one table for the AUROC, one for shares."""
    few = max(draws // 10, 1)
    yield "| nominal, defective, AUROC, a group, common, spread | in use | logit DeLong | percentiles |"
    yield "|---|---|---|---|"
    for case in AUROCS:
        methods = ((auroc_interval, draws), (logit_auroc, draws), (percentile_auroc, few))
        cells = [
            coverage(method, lambda rng, case=case: scored(*case, rng), case[2], n) for method, n in methods
        ]
        yield _row(case, cells)
    yield "\n| groups, a group, share, common | in use | Wilson | percentiles |"
    yield "|---|---|---|---|"
    for case in SHARES:
        methods = ((share_interval, draws), (wilson_share, draws), (percentile_share, few))
        cells = [
            coverage(method, lambda rng, case=case: judged(*case, rng), case[2], n) for method, n in methods
        ]
        yield _row(case, cells)


def _row(case: tuple[float, ...], cells: list[tuple[float, float]]) -> str:
    shown = " | ".join(f"{100 * held:.1f} % (width {width:.3f})" for held, width in cells)
    return f"| {', '.join(f'{value:g}' for value in case)} | {shown} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000)
    for line in tables(parser.parse_args().draws):
        print(line, flush=True)


if __name__ == "__main__":
    main()
