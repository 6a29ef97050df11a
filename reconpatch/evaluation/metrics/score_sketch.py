"""A distribution of scores in bounded memory: exact while small, of known rank error when large.

Values are gathered in chunks; a full chunk is reduced to a fixed number of points of equal weight, and
full stacks of reduced chunks are reduced again (Munro and Paterson, "Selection and sorting with limited
storage", 1980; Manku, Rajagopalan and Lindsay, SIGMOD 1998). A reduction needs no sort: it counts in cells
of the float32 key space that are finer where there is more mass, and only values that crowd one cell
without being equal are sorted.
"""

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import DataError

Floats = NDArray[np.float32]
Masses = NDArray[np.float64]
_Part = tuple[Floats, float | Masses]

CHUNK = 1 << 22
POINTS = 1 << 18
CELL_MASS = 2.0**-18
_COARSE_BITS = 16


class ScoreSketch:
    """Weighted distribution of float32 scores.

    Up to ``CHUNK`` values it is exact. Beyond, for every t the mass at or below t is known to within
    ``rank_error``; each stage of reduction adds at most ``CELL_MASS + 1 / (2 * POINTS)`` = 5.7e-6, and n
    values pass ceil(log_16(n / 2**22)) + 2 stages at most. Nothing is assumed of the values or their order.
    Memory: 16 MiB a stage, 150 MiB more for a moment while reducing.
    """

    def __init__(self) -> None:
        self._levels: list[list[_Part]] = [[]]
        self.total = 0.0

    def add(self, values: NDArray[np.floating], weights: float | Masses = 1.0) -> None:
        """Add scores.

        Args:
            values: (n,) finite scores, copied as float32.
            weights: positive mass of each value, one for all or (n,).

        Raises:
            DataError: a score is NaN or infinite.
        """
        kept = np.asarray(values, dtype=np.float32) + np.float32(0)  # -0 becomes 0, which has other bits
        if kept.size and not np.isfinite(kept.sum(dtype=np.float64)):
            raise DataError("an anomaly map holds NaN or infinite values; scores must be finite")
        self.total += float(weights.sum()) if isinstance(weights, np.ndarray) else kept.size * weights
        for start in range(0, kept.size, CHUNK):
            part = slice(start, start + CHUNK)
            self._push(0, (kept[part], weights[part] if isinstance(weights, np.ndarray) else weights))

    def points(self) -> tuple[Floats, Masses]:
        """Distinct values in ascending order and the mass of each."""
        parts = [part for level in self._levels for part in level]
        if self._is_exact:
            return _sorted_masses(*_joined(parts))
        values, weight = _reduced(parts)
        return _sorted_masses(values, weight)

    @property
    def rank_error(self) -> float:
        """Largest error of the share of mass at or below any t; 0 while the sketch is exact."""
        return 0.0 if self._is_exact else (len(self._levels)) * (CELL_MASS + 0.5 / POINTS)

    @property
    def _is_exact(self) -> bool:
        return len(self._levels) == 1

    def _push(self, level: int, part: _Part) -> None:
        if level == len(self._levels):
            self._levels.append([])
        parts = self._levels[level]
        if parts and sum(values.size for values, _ in parts) + part[0].size > CHUNK:
            self._levels[level] = []
            self._push(level + 1, _reduced(parts))
        self._levels[level].append(part)


def _joined(parts: list[_Part]) -> tuple[Floats, float | Masses]:
    if not parts:
        return np.empty(0, np.float32), 1.0
    values = np.concatenate([part for part, _ in parts])
    first = parts[0][1]
    if all(isinstance(weight, float) and weight == first for _, weight in parts):
        return values, first
    return values, np.concatenate([np.broadcast_to(weight, part.shape) for part, weight in parts])


def _sorted_masses(values: Floats, weights: float | Masses) -> tuple[Floats, Masses]:
    if isinstance(weights, np.ndarray):
        order = np.argsort(values, kind="stable")
        values, weights = values[order], weights[order]
    else:
        values = np.sort(values)
        weights = np.full(values.shape, weights)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: values.size])
    return values[starts], np.add.reduceat(weights, starts) if values.size else weights


def _reduced(parts: list[_Part]) -> _Part:
    """About ``POINTS`` values of one weight that stand for all ``parts``, in ascending order."""
    values, weights = _joined(parts)
    ordered, masses = _cells(values, weights)
    edges = np.cumsum(masses)
    total = edges[-1]
    copies = np.diff(np.floor(edges * (POINTS / total) + 0.5), prepend=0.0).astype(np.int64)
    kept = np.repeat(ordered, copies)
    return kept, float(total / kept.size)


def _cells(values: Floats, weights: float | Masses) -> tuple[Floats, Masses]:
    """Values in ascending order with masses; a cell that mixes values holds at most ``CELL_MASS`` of all."""
    cell, count = _cell_index(values, weights)
    mass = _mass(cell, weights, count)
    # Any member may stand for its cell: ranks move by no more than the cell's own mass.
    member = np.empty(count, np.float32)
    member[cell] = values
    filled = np.flatnonzero(mass)
    crowded = np.zeros(count, bool)
    crowded[cell[values != member[cell]]] = True
    crowded &= mass > CELL_MASS * mass.sum()
    if not crowded.any():
        return member[filled], mass[filled]
    inside = crowded[cell]
    exact, exact_mass = _sorted_masses(
        values[inside], weights[inside] if isinstance(weights, np.ndarray) else weights
    )
    calm = filled[~crowded[filled]]
    places = np.searchsorted(member[calm], exact)
    return np.insert(member[calm], places, exact), np.insert(mass[calm], places, exact_mass)


def _cell_index(values: Floats, weights: float | Masses) -> tuple[NDArray[np.int64], int]:
    """Cell of each value, and the number of cells; cells follow the order of the values."""
    bits = values.view(np.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(0x80000000)
    keys -= keys.min()
    shift = max(int(keys.max()).bit_length() - _COARSE_BITS, 0)
    coarse = (keys >> np.uint32(shift)).astype(np.int64)
    mass = _mass(coarse, weights, 1 << _COARSE_BITS)
    wanted = np.maximum(mass / (mass.sum() * CELL_MASS / 2), 1.0)
    split = np.minimum(np.ceil(np.log2(wanted)), shift).astype(np.int64)
    first = np.cumsum(1 << split) - (1 << split)
    within = (keys & np.uint32((1 << shift) - 1)) >> (shift - split).astype(np.uint32)[coarse]
    return first[coarse] + within, int(first[-1] + (1 << split[-1]))


def _mass(index: NDArray[np.int64], weights: float | Masses, count: int) -> Masses:
    if isinstance(weights, np.ndarray):
        return np.asarray(np.bincount(index, weights, minlength=count), dtype=np.float64)
    return np.bincount(index, minlength=count) * np.float64(weights)
