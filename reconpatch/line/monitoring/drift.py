"""Has what the camera sees drifted: do new images look, to the detector that ships, as the held-out ones did?

A group is one observation, for which one of its images stands. The labels "held out" and "new" are dealt anew
many times; the smallest p-value of all statistics is compared with the smallest one of every deal (Westfall
and Young), which accounts for how many statistics there are and for their dependence. No distribution is
assumed. docs/adr/0010-drift.md says why these statistics, and what they cannot see.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.covariance import ledoit_wolf_shrinkage

from reconpatch.calibration.held_out_images import IMAGE_STATISTICS, with_image_statistics
from reconpatch.errors import DataError

_FIRST = 999  # deals of a first look, which spares the many where nothing stands out
_BATCH = 2_000  # deals at a time; bounds the memory
_FEWEST = 5  # groups on either side
_MAIN = 0.95  # share of the embedding's variance whose directions are compared
_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """What one check found.

    Attributes:
        p_value: of all statistics together.
        level: an alarm is a p-value not above it.
        shifts: for each statistic its p-value alone; says what has moved, decides nothing.
        reference: held-out groups.
        window: new groups.
    """

    p_value: float
    level: float
    shifts: dict[str, float]
    reference: int
    window: int

    @property
    def alarm(self) -> bool:
        """Whether the new images stand out."""
        return self.p_value <= self.level


@dataclass(frozen=True)
class _Statistic:
    """The mean of some columns over the new rows: its distance from that over all, or how far above."""

    values: _Array
    tail: Literal["both", "upper"] = "both"


def find_drift(
    reference: pd.DataFrame, window: pd.DataFrame, *, level: float, seed: int, latest: int = 0
) -> Drift:
    """Compare new images with held-out nominal ones, both scored by the detector that ships.

    Where something changed a while ago, many new images are still as ever: the latest ones are looked at on
    their own, too. An image whose brightness, contrast or sharpness is not known is left out of every
    statistic: a deal is fair only where each image may lie on either side of all of them.

    Args:
        reference: an image a row: ``group``, ``score``, ``is_anomalous`` (null: not calibrated),
            ``brightness``, ``contrast``, ``sharpness`` (null: not known), ``embedding`` ((E,) float).
        window: the same of the new images.
        level: probability of an alarm where nothing has drifted, in (0, 1).
        seed: of the deals, and of the choice of an image a group.
        latest: so many rows at the window's end are its latest images; 0: none are told apart.

    Raises:
        DataError: of the images left a side has fewer than five groups, embeddings are of other widths, or a
            score or an embedding is not finite.
    """
    timed = window.assign(latest=np.arange(len(window)) >= len(window) - latest)
    before, after = _one_a_group(reference, seed), _one_a_group(timed, seed).sort_values("latest")
    if min(len(before), len(after)) < _FEWEST:
        raise DataError(
            f"drift: {len(before)} held-out and {len(after)} new groups of known "
            f"{', '.join(IMAGE_STATISTICS)}; each side needs {_FEWEST}"
        )
    statistics = _statistics(pd.concat([before, after], ignore_index=True))
    ends = [len(after)]
    if _FEWEST <= (last := int(after["latest"].sum())) < len(after):
        ends.append(last)
    overall, single = _p_values(statistics, ends, _FIRST, seed)
    if overall <= max(level, 0.02):
        # A p-value as small as the level needs many deals, none of which drew attention to it.
        overall, single = _p_values(statistics, ends, max(_FIRST, int(np.ceil(20 / level))), seed + 1)
    return Drift(overall, level, single, len(before), len(after))


def _one_a_group(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One image a group: a mean over a larger group would vary less, which is no drift."""
    return with_image_statistics(table).sample(frac=1, random_state=seed).drop_duplicates("group")


def _statistics(rows: pd.DataFrame) -> dict[str, _Statistic]:
    """Columns that know nothing of which rows are new."""
    widths = {len(one) for one in rows["embedding"]}
    if len(widths) != 1:
        raise DataError(f"drift: embeddings of {sorted(widths)} numbers; score both sides with one version")
    embeddings = np.stack(list(rows["embedding"])).astype(np.float64)
    broken = ~(np.isfinite(rows["score"].to_numpy(float)) & np.isfinite(embeddings).all(axis=1))
    if broken.any():
        raise DataError(
            f"drift: {broken.sum()} image(s) with a score or an embedding that is not finite; score anew"
        )
    score = _shares(rows["score"])
    embedding = _Components.of(_standardised(embeddings))
    odd = norm.ppf(_shares(embedding.oddness())) + norm.ppf(score)
    found = {
        "score": _Statistic(norm.ppf(score)[:, None]),
        "highest scores": _Statistic(_far_out(score), "upper"),
        "oddest images": _Statistic(_far_out(_shares(odd)), "upper"),
        "embedding": _Statistic(embedding.main()),
        **{name: _Statistic(norm.ppf(_shares(rows[name]))[:, None]) for name in IMAGE_STATISTICS},
    }
    if rows["is_anomalous"].notna().all():
        found["rejects"] = _Statistic(rows["is_anomalous"].to_numpy(float)[:, None], "upper")
    return found


def _shares(values: pd.Series | _Array) -> _Array:
    """Share of the rows below each, in (0, 1)."""
    shares: _Array = (rankdata(values) - 0.5) / len(values)
    return shares


def _far_out(shares: _Array) -> _Array:
    """Weights that let a few rows far out decide, as Anderson and Darling: 1 / sqrt(share above)."""
    weights: _Array = ((1 - shares) ** -0.5)[:, None]
    return weights


def _standardised(columns: _Array) -> _Array:
    spread = columns.std(axis=0)
    scaled: _Array = (columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return scaled


@dataclass(frozen=True)
class _Components:
    """Principal components of standardised columns.

    Coordinates (N, r), their variances, the columns' mean variance, and how far those are shrunk towards it
    (Ledoit and Wolf).
    """

    coordinates: _Array
    variances: _Array
    shrinkage: float
    mean: float

    @classmethod
    def of(cls, columns: _Array) -> "_Components":
        count, width = columns.shape
        # Of the smaller of the two products: many times faster than a decomposition of the columns.
        wide = width > count
        squares, vectors = np.linalg.eigh(columns @ columns.T if wide else columns.T @ columns)
        kept = np.flatnonzero(squares > 1e-10 * max(float(squares[-1]), 1e-300))[::-1]
        squares, vectors = squares[kept], vectors[:, kept]
        coordinates = vectors * np.sqrt(squares) if wide else columns @ vectors
        shrinkage = float(ledoit_wolf_shrinkage(columns, assume_centered=True))
        return cls(coordinates, squares / count, shrinkage, float((columns**2).mean()))

    def main(self) -> _Array:
        """The coordinates that hold 95 % of the variance, which the others would only add noise to."""
        kept = np.searchsorted(np.cumsum(self.variances), _MAIN * self.variances.sum()) + 1
        return self.coordinates[:, :kept]

    def oddness(self) -> _Array:
        """(N,) squared Mahalanobis distances by the shrunk covariance."""
        shrunk = (1 - self.shrinkage) * self.variances + self.shrinkage * self.mean
        distances: _Array = (self.coordinates**2 / shrunk).sum(axis=1)
        return distances


def _p_values(
    statistics: Mapping[str, _Statistic], ends: Sequence[int], deals: int, seed: int
) -> tuple[float, dict[str, float]]:
    """P-value of all statistics together, and of each alone; the true deal is one of the deals.

    ``ends`` are numbers of rows at the end that are compared with all, each number on its own.
    """
    random, total = np.random.default_rng(seed), len(next(iter(statistics.values())).values)
    names = [name if end == ends[0] else f"{name}, latest" for end in ends for name in statistics]
    drawn = [_all_sizes(np.arange(total)[None, :], ends, statistics)]
    for start in range(0, deals, _BATCH):
        values = random.random((min(_BATCH, deals - start), total))
        order = values.argpartition([total - end for end in ends], axis=1)
        drawn.append(_all_sizes(order, ends, statistics))
    sizes = np.concatenate(drawn).round(10)  # equal deals are equal, whatever the order of the sums
    ordered = np.sort(sizes, axis=0)
    above = np.stack(
        [len(sizes) - np.searchsorted(ordered[:, i], sizes[:, i]) for i in range(len(names))], axis=1
    )
    smallest = above.min(axis=1)
    single = dict(zip(names, (float(one) / len(sizes) for one in above[0]), strict=True))
    return float((smallest <= smallest[0]).mean()), single


def _all_sizes(order: NDArray[np.int64], ends: Sequence[int], statistics: Mapping[str, _Statistic]) -> _Array:
    """(deals, ends x statistics) of deals that are given as orders of the rows."""
    sizes = []
    for end in ends:
        chosen = np.zeros(order.shape)
        np.put_along_axis(chosen, order[:, order.shape[1] - end :], 1.0, axis=1)
        sizes.append(_sizes(chosen, statistics))
    return np.concatenate(sizes, axis=1)


def _sizes(chosen: _Array, statistics: Mapping[str, _Statistic]) -> _Array:
    """(deals, statistics): how large each is for the rows that a deal calls new."""
    counts = chosen.sum(axis=1, keepdims=True)
    sizes = []
    for one in statistics.values():
        means = chosen @ one.values / counts
        sizes.append(means[:, 0] if one.tail == "upper" else np.sqrt((means**2).sum(axis=1)))
    return np.stack(sizes, axis=1)
