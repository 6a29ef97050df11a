"""Pixels counted over bins of score: exact while few distinct scores are in use, of known resolution beyond.

A bin is the upper bits of a float32 in the order of its values. Dropping one more bit joins neighbouring
bins in pairs, so coarser counts follow from finer ones without the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

MOST_BINS = 1 << 18  # of a `RunningCounts`: 9 MiB


@dataclass(frozen=True)
class ScoreCounts:
    """K masses, such as pixels of a class, over the bins in use.

    Attributes:
        bins: (B,) ascending numbers of bins.
        masses: (K, B) mass in each bin.
        lowest: (B,) smallest score in each bin.
        mixed: (B,) whether a bin holds more than one distinct score.
        shift: low bits of a float32 that a bin leaves out; 0 gives every distinct score its own bin.
    """

    bins: NDArray[np.uint32]
    masses: NDArray[np.float64]
    lowest: NDArray[np.float32]
    mixed: NDArray[np.bool_]
    shift: int = 0

    @classmethod
    def of(cls, scores: NDArray[np.float32], weights: NDArray[np.float64] | None = None) -> "ScoreCounts":
        """Count scores.

        Args:
            scores: (n,) finite.
            weights: (K, n) mass of each score; None: K is 1, and each counts once.
        """
        scores = scores + np.float32(0)  # -0 becomes 0, which has other bits
        if weights is None:
            values, number = np.unique(scores, return_counts=True)
            masses = number[None].astype(np.float64)
        else:
            values, place = np.unique(scores, return_inverse=True)
            masses = np.array([np.bincount(place, row, len(values)) for row in weights])
        bits = values.view(np.int32)
        keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(0x80000000)
        return cls(keys, masses, values, np.zeros(len(values), dtype=bool))

    @classmethod
    def sum(cls, parts: Sequence["ScoreCounts"]) -> "ScoreCounts":
        """The sum of at least one; all of the same K and shift."""
        lowest = np.concatenate([part.lowest for part in parts])
        order = np.argsort(lowest, kind="stable")
        return cls(
            np.concatenate([part.bins for part in parts])[order],
            np.concatenate([part.masses for part in parts], axis=1)[:, order],
            lowest[order],
            np.concatenate([part.mixed for part in parts])[order],
            parts[0].shift,
        )._joined()

    def coarser(self, shift: int) -> "ScoreCounts":
        """The same with ``shift`` bits left out, at least as many as now."""
        bins = self.bins >> np.uint32(shift - self.shift)
        return ScoreCounts(bins, self.masses, self.lowest, self.mixed, shift)._joined()

    def as_rows(self, rows: slice, count: int) -> "ScoreCounts":
        """The same masses as ``rows`` of ``count``; the others are 0."""
        masses = np.zeros((count, len(self.bins)))
        masses[rows] = self.masses
        return replace(self, masses=masses)

    def _joined(self) -> "ScoreCounts":
        """Equal bins, which lie side by side in ascending order of scores, as one."""
        is_first = np.concatenate([[True], self.bins[1:] != self.bins[:-1]])[: len(self.bins)]
        if is_first.all():
            return self
        first = np.flatnonzero(is_first)
        last = np.append(first[1:], len(self.bins)) - 1
        within = np.diff(np.cumsum(self.mixed)[last], prepend=0) > 0
        return ScoreCounts(
            self.bins[first],
            np.diff(np.cumsum(self.masses, axis=1)[:, last], axis=1, prepend=0.0),
            self.lowest[first],
            within | (self.lowest[first] != self.lowest[last]),
            self.shift,
        )


class RunningCounts:
    """The sum of any number of `ScoreCounts`, over `MOST_BINS` bins at most.

    Its shift is the smallest at which all scores so far take that few bins, in whatever order they came.
    """

    def __init__(self) -> None:
        self._parts: list[ScoreCounts] = []

    def add(self, counts: ScoreCounts) -> None:
        """Add counts of shift 0."""
        shift = self._parts[0].shift if self._parts else 0
        self._parts.append(counts.coarser(shift))
        if sum(len(part.bins) for part in self._parts) > 4 * MOST_BINS:
            self.total()

    def total(self) -> ScoreCounts | None:
        """The sum so far; None before the first."""
        if not self._parts:
            return None
        total = ScoreCounts.sum(self._parts)
        shift = total.shift
        while np.count_nonzero(np.diff(total.bins >> np.uint32(shift - total.shift))) >= MOST_BINS:
            shift += 1
        total = total.coarser(shift)
        self._parts = [total]
        return total
