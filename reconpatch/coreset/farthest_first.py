"""Exact farthest-first traversal: contenders by lazy float32 bounds, picks by float64 distances."""

from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.coreset.bounding_coordinates import bounding_coordinates
from reconpatch.coreset.lazy_bounds import CHOSEN, LazyBounds, batches

# Points confirmed in float64 in one round, at most.
_CONTENDERS = 512
_EXACT_ELEMENTS = 1 << 20
# How far below the highest bound the floor of the first round lies, and how that changes with the
# number of points found above it.
_FIRST_DEPTH = 0.05
_MOST_DEPTH = 0.5
_DEPTH_STEP = 1.5
# A product with fewer rows takes as long as one with this many.
_LEAST_ROWS = 16
# Rows of a product that one worker takes.
_MOST_ROWS = 128

# The places of some points, and the numbers of the centres that they are to be compared with.
_Product = tuple[NDArray[np.int64], NDArray[np.int64]]


def squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) float64 squared distances of rows of ``a`` (n, D) and ``b`` (n, D) or (D,), by differences.

    This is the distance that defines the selection.
    """
    difference = a - b
    result: NDArray[np.float64] = np.einsum("ij,ij->i", difference, difference)
    return result


class Traversal:
    """State of a farthest-first traversal of N points, up to ``size`` centres.

    A point's bound is never below its squared distance to the nearest centre, and never rises, so only
    points with the largest bounds can be the next centre. Each round takes these contenders: all
    points above a floor, once `LazyBounds` has brought their bounds up to date. Their distances are
    confirmed in float64 against every centre that the float32 bounds do not rule out. Then they are
    picked greedily while the best is above the floor, which no other point exceeds. So each pick is
    the one that the textbook loop in float64 makes.

    Args:
        points: (N, D) float16 or float32.
        size: number of centres, 1 to N.
        device: of the matrix products.
        pool: whose workers, each on one core, take chunks and cells.

    Raises:
        DataError: see `bounding_coordinates`.
    """

    def __init__(
        self, points: NDArray[np.floating], size: int, device: torch.device | str, pool: Executor
    ) -> None:
        self._points = points
        self._size = size
        self._pool = pool
        self._bounds = LazyBounds(bounding_coordinates(points, device, pool), size, pool)
        self._depth = _FIRST_DEPTH

    def picks(self, first: int) -> Iterator[int]:
        """Yield the index of each centre in turn, ``first`` first.

        The next one is the point farthest from the centres so far; of equally far ones the one with
        the lowest index.
        """
        bounds = self._bounds
        none, exact = np.empty(0, dtype=np.int64), np.empty(0)
        bounds.add(np.flatnonzero(bounds.order == first), none, exact)
        yield first
        bounds.above(0)
        while bounds.count < self._size and bounds.highest() > 0:
            places, floor = self._contenders()
            self._confirm(places)
            yield from bounds.order[self._pick(places, floor)].tolist()
        # What is left coincides with centres.
        yield from np.sort(bounds.order[bounds.bound >= 0])[: self._size - bounds.count].tolist()

    def _contenders(self) -> tuple[NDArray[np.int64], float]:
        """Ascending places of the points with the largest bounds, and a floor that no other exceeds.

        Of too many points with the same, largest bound those with the lowest indices are taken; the
        floor is then just below it.
        """
        floor = self._bounds.highest() * (1 - self._depth)
        places = self._bounds.above(floor)
        if len(places) > 2 * _CONTENDERS:
            self._depth /= _DEPTH_STEP
        elif len(places) < _CONTENDERS // 2:
            self._depth = min(self._depth * _DEPTH_STEP, _MOST_DEPTH)
        if len(places) <= _CONTENDERS:
            return places, floor
        bound = self._bounds.bound[places]
        floor = float(np.partition(bound, -_CONTENDERS)[-_CONTENDERS])
        above = bound > floor
        if above.any():
            return places[above], floor
        tied = places[bound == floor]
        lowest = np.argsort(self._bounds.order[tied])[:_CONTENDERS]
        return np.sort(tied[lowest]), float(np.nextafter(floor, 0))

    def _confirm(self, places: NDArray[np.int64]) -> None:
        """Make the bounds of the points at ``places`` (ascending) exact, in float64.

        Each is compared with the centres that reach its cell, cell by cell, or all with all centres at
        once where cells keep few centres out.
        """
        bounds = self._bounds
        todo = places[bounds.known[places] < bounds.count]
        if not len(todo):
            return
        cells, begins = np.unique(bounds.cell[todo], return_index=True)
        apart = [
            (some, bounds.reaching(cell, bounds.known[some].min()))
            for cell, some in zip(cells, np.split(todo, begins[1:]), strict=True)
        ]
        fresh = bounds.known[todo] == 0
        together = [
            (some, np.arange(bounds.known[some].min(), bounds.count))
            for kind in (todo[fresh], todo[~fresh])
            for some in np.split(kind, range(_MOST_ROWS, len(kind), _MOST_ROWS))
            if len(some)
        ]
        products = apart if _cost(apart) < _cost(together) else together
        for some, value in self._pool.map(self._confirmed, products):
            bounds.confirm(some, value)

    def _confirmed(self, product: _Product) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The places of a product, and their distances to the nearest of its centres where that is lower."""
        bounds = self._bounds
        places, numbers = product
        value = bounds.bound[places]
        low = bounds.coordinates.low_rows(places)
        lower = bounds.coordinates.lower(places)
        for batch in batches(numbers):
            columns = bounds.columns[torch.from_numpy(batch).to(bounds.columns.device)]
            products = (low @ columns.T).cpu().numpy()
            thresholds = np.nextafter((value - lower).astype(np.float32), np.float32(np.inf))
            point, centre = np.nonzero(products <= thresholds[:, None])
            step = max(1, _EXACT_ELEMENTS // self._points.shape[1])
            for start in range(0, len(point), step):
                some = point[start : start + step]
                against = bounds.centres[batch[centre[start : start + step]]]
                exact = squared_distances(self._vectors(bounds.order[places[some]]), self._vectors(against))
                np.minimum.at(value, some, exact)
        return places, value

    def _vectors(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        vectors: NDArray[np.float64] = self._points[indices].astype(np.float64)
        return np.multiply(vectors, self._bounds.coordinates.scale, out=vectors)

    def _pick(self, places: NDArray[np.int64], floor: float) -> NDArray[np.int64]:
        """Add the next centres, chosen among confirmed contenders until the best is at the floor.

        Returns:
            Their places; none where no contender is above the floor.
        """
        bounds = self._bounds
        places = places[bounds.bound[places] > floor]
        places = places[np.argsort(bounds.order[places])]
        value = bounds.bound[places]
        lower = bounds.coordinates.lower(places)
        thresholds = value - lower
        vectors = self._vectors(bounds.order[places])
        products = (bounds.coordinates.columns(places) @ bounds.coordinates.low_rows(places).T).cpu().numpy()
        chosen: list[int] = []
        while len(places) and len(chosen) < self._size - bounds.count:
            best = int(value.argmax())
            if value[best] <= floor:
                break
            chosen.append(best)
            value[best], thresholds[best] = CHOSEN, -np.inf
            near = np.flatnonzero(products[best] < thresholds)
            if len(near):
                value[near] = np.minimum(value[near], squared_distances(vectors[near], vectors[best]))
                thresholds[near] = value[near] - lower[near]
        if chosen:
            bounds.add(places[chosen], places, value)
        return places[chosen]


def _cost(products: list[_Product]) -> int:
    """About how many elements the products of points and centres take the time of."""
    return sum(max(len(places), _LEAST_ROWS) * len(numbers) for places, numbers in products)
