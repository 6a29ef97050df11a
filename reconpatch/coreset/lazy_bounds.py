"""Upper bounds of each point's distance to the nearest centre, brought up to date only on demand."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.coreset.bounding_coordinates import Coordinates
from reconpatch.coreset.point_partition import build_cells

CHOSEN = -1.0
_PRODUCT_ELEMENTS = 1 << 20
_BATCH = 4096


class LazyBounds:
    """Bounds on the squared distance of each of N points to the nearest of a growing list of centres.

    Points are put in order, cell by cell. A cell is refreshed only when its ceiling, the largest bound
    of its points, is above the floor that is asked for: one float32 matrix product with the centres
    that it missed. A centre farther from a cell than the cell's largest bound cannot matter there, now
    or later, and is never noted for it.

    Attributes:
        order: (N,) original index of the point at each place.
        cell: (N,) its cell, ascending.
        coordinates: of the points in their places.
        bound: (N,) float64; `CHOSEN`, which is negative, for centres.
        known: (N,) how many centres, from the first on, a point's bound is exact for; at most ``count``.
        centres: (size,) original indices of the centres.
        columns: (size, k + 2) their coordinates.
        count: number of centres so far.
    """

    def __init__(self, coordinates: Coordinates, size: int, pool: Executor) -> None:
        self._pool = pool
        self._cells = cells = build_cells(coordinates, pool)
        members = np.diff(cells.starts)
        self.order = cells.order
        self.cell = np.repeat(np.arange(len(members)), members)
        self.coordinates = coordinates.reordered(cells.order)
        self.bound = np.full(len(self.order), np.inf)
        self.known = np.zeros(len(self.order), dtype=np.int64)
        self.centres = np.empty(size, dtype=np.int64)
        self.columns = torch.empty((size, coordinates.rows.shape[1]), device=coordinates.rows.device)
        self.count = 0
        self._ceiling = np.where(members > 0, np.inf, CHOSEN)
        self._seen = np.zeros(len(members), dtype=np.int64)
        # Per cell the numbers, ascending, of the centres that may be the nearest of one of its points.
        self._reaching = [array("i") for _ in members]

    def highest(self) -> float:
        """The largest bound, or more where cells are not up to date."""
        return float(self._ceiling.max())

    def reaching(self, cell: int, first: int) -> NDArray[np.int64]:
        """Numbers, from ``first`` on, of the centres that may be the nearest of a point of the cell."""
        numbers = self._reaching[cell]
        return np.array(numbers[bisect_left(numbers, first) :], dtype=np.int64)

    def confirm(self, places: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Set the bounds of points that have been compared with every centre so far."""
        self._lower(places, values)
        self.known[places] = self.count

    def add(self, centres: NDArray[np.int64], places: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Make some points the next centres, and set the bounds of those already compared with them.

        One step, so that `known` never counts a centre that is not there yet.

        Args:
            centres: places of the new centres, in order.
            places: of points that have been compared with every centre, the new ones included.
            values: their bounds after it.
        """
        self._lower(places, values)
        numbers = np.arange(self.count, self.count + len(centres))
        self.bound[centres] = CHOSEN
        self.centres[numbers] = self.order[centres]
        self.columns[torch.from_numpy(numbers)] = self.coordinates.columns(centres)
        reached = self._cells.reached(self.coordinates, centres, self._ceiling)
        for cell, by in enumerate(reached.T):
            self._reaching[cell].extend(numbers[by].tolist())
        self.count += len(centres)
        self.known[places] = self.count

    def above(self, floor: float) -> NDArray[np.int64]:
        """Ascending places of the points whose bound, brought up to date, is above ``floor``."""
        list(self._pool.map(self._refresh, np.flatnonzero(self._ceiling > floor).tolist()))
        parts = [np.empty(0, dtype=np.int64)]
        for cell in np.flatnonzero(self._ceiling > floor).tolist():
            places = self._cells.places(cell)
            parts.append(places.start + np.flatnonzero(self.bound[places] > floor))
        return np.concatenate(parts)

    def _lower(self, places: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        self.bound[places] = values
        for cell in np.unique(self.cell[places]).tolist():
            self._ceiling[cell] = self.bound[self._cells.places(cell)].max()

    def _refresh(self, cell: int) -> None:
        missed = self.reaching(cell, self._seen[cell])
        self._seen[cell] = self.count
        if not len(missed):
            return
        places = self._cells.places(cell)
        for numbers in batches(missed):
            columns = self.columns[torch.from_numpy(numbers).to(self.columns.device)].T
            step = _PRODUCT_ELEMENTS // len(numbers)
            for start in range(places.start, places.stop, step):
                part = slice(start, min(start + step, places.stop))
                nearest = (self.coordinates.rows[part] @ columns).amin(dim=1).cpu().numpy()
                np.minimum(self.bound[part], nearest + self.coordinates.upper(part), out=self.bound[part])
        self._ceiling[cell] = self.bound[places].max()


def batches(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Parts of at most 4,096, so that a product and its right-hand side stay small."""
    for start in range(0, len(numbers), _BATCH):
        yield numbers[start : start + _BATCH]
