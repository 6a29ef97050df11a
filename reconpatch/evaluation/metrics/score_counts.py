"""Pixels counted over bins of score: exact while few distinct scores are in use, of known resolution beyond.

A bin is the upper bits of a float32 in the order of its values. Dropping one more bit joins neighbouring
bins in pairs, so coarser counts follow from finer ones without the scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
        highest: (B,) largest score in each bin.
        shift: low bits of a float32 that a bin leaves out; 0 gives every distinct score its own bin.
    """

    bins: NDArray[np.uint32]
    masses: NDArray[np.float64]
    lowest: NDArray[np.float32]
    highest: NDArray[np.float32]
    shift: int = 0

    @classmethod
    def of(cls, scores: NDArray[np.float32], weights: NDArray[np.float64]) -> "ScoreCounts":
        """Count scores.

        Args:
            scores: (n,) finite.
            weights: (K, n) mass of each score, or (K, 1) for all alike.
        """
        scores = scores + np.float32(0)  # -0 becomes 0, which has other bits
        if weights.shape[1] == 1:
            values, number = np.unique(scores, return_counts=True)
            masses = weights * number
        else:
            values, place = np.unique(scores, return_inverse=True)
            masses = np.array([np.bincount(place, row, len(values)) for row in weights])
        bits = values.view(np.int32)
        keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(0x80000000)
        return cls(keys, masses, values, values)

    @classmethod
    def sum(cls, parts: Sequence["ScoreCounts"]) -> "ScoreCounts":
        """The sum of at least one; all of the same shift."""
        bins = np.concatenate([part.bins for part in parts])
        order = np.argsort(bins, kind="stable")
        masses = np.concatenate([part.masses for part in parts], axis=1)[:, order]
        lowest = np.concatenate([part.lowest for part in parts])[order]
        highest = np.concatenate([part.highest for part in parts])[order]
        return cls(bins[order], masses, lowest, highest, parts[0].shift)._joined()

    def coarser(self, shift: int) -> "ScoreCounts":
        """The same with ``shift`` bits left out, at least as many as now."""
        bins = self.bins >> np.uint32(shift - self.shift)
        return ScoreCounts(bins, self.masses, self.lowest, self.highest, shift)._joined()

    def _joined(self) -> "ScoreCounts":
        """Equal bins, which lie side by side, as one."""
        starts = np.flatnonzero(np.concatenate([[True], self.bins[1:] != self.bins[:-1]])[: len(self.bins)])
        if len(starts) == len(self.bins):
            return self
        return ScoreCounts(
            self.bins[starts],
            np.add.reduceat(self.masses, starts, axis=1),
            np.minimum.reduceat(self.lowest, starts),
            np.maximum.reduceat(self.highest, starts),
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
        while len(total.bins) > MOST_BINS:
            total = total.coarser(total.shift + 1)
        self._parts = [total]
        return total
