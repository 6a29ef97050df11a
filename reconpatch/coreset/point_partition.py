"""A partition of points into cells, so that a far centre can be skipped for a whole cell."""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.coreset.bounding_coordinates import Coordinates

_CHUNK_ELEMENTS = 1 << 19
_SAMPLE_PER_CELL = 16
_CELLS_PER_ROOT = 0.4
_MARGIN = 1e-9


@dataclass(frozen=True)
class Cells:
    """Points grouped by their nearest pivot; a cell's points get places one after the other.

    Attributes:
        order: (N,) original index of the point at each place.
        starts: (P + 1,) place where each cell begins; the last entry is N.
        pivots: (P, k + 2) columns of the pivots.
        radii: (P,) upper bounds of the distance from a pivot to the points of its cell.
    """

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    pivots: Tensor
    radii: NDArray[np.float64]

    def places(self, cell: int) -> slice:
        """The places of a cell's points."""
        return slice(int(self.starts[cell]), int(self.starts[cell + 1]))

    def reached(
        self, coordinates: Coordinates, places: NDArray[np.int64], ceilings: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """(n, P): whether a point may lie nearer than the ceiling to a point of a cell.

        By the triangle inequality it lies at least |point - pivot| - radius away from all of them.

        Args:
            coordinates: that hold the points.
            places: (n,) their places in ``coordinates``.
            ceilings: (P,) squared distances; below 0 for cells without points of interest.
        """
        products = (coordinates.low_rows(places) @ self.pivots.T).cpu().numpy()
        squared = products + coordinates.lower(places)[:, None]
        gap = np.maximum(np.sqrt(np.maximum(squared, 0)) - self.radii, 0)
        return gap * gap * (1 - _MARGIN) <= ceilings


def build_cells(coordinates: Coordinates, pool: Executor) -> Cells:
    """Cells around about 0.4 sqrt(N) pivots, themselves spread by k-center over a sample.

    Args:
        coordinates: of the points, in the original order.
        pool: whose workers take the points chunk by chunk.
    """
    count = len(coordinates.norms)
    chosen = _pivots(coordinates, max(1, round(_CELLS_PER_ROOT * count**0.5)))
    pivots = coordinates.columns(chosen)
    cell = np.empty(count, dtype=np.int64)
    reach = np.empty(count)

    def assign(start: int) -> None:
        part = slice(start, start + step)
        nearest = (coordinates.rows[part] @ pivots.T).min(dim=1)
        cell[part] = nearest.indices.cpu().numpy()
        reach[part] = nearest.values.cpu().numpy()

    step = max(1, _CHUNK_ELEMENTS // len(chosen))
    list(pool.map(assign, range(0, count, step)))
    reach += coordinates.upper(slice(None))
    radii = np.zeros(len(chosen))
    np.maximum.at(radii, cell, np.sqrt(np.maximum(reach, 0)))
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(chosen) + 1))
    return Cells(order, starts, pivots, radii)


def _pivots(coordinates: Coordinates, count: int) -> NDArray[np.int64]:
    """Places of pivots: farthest-first over a sample; it need not be exact, any pivots are valid."""
    rng = np.random.default_rng(0)
    total = len(coordinates.norms)
    sample = rng.choice(total, min(total, count * _SAMPLE_PER_CELL), replace=False)
    rows = coordinates.rows[torch.from_numpy(sample).to(coordinates.rows.device)]
    columns = coordinates.columns(sample)
    nearest = torch.full((len(sample),), torch.inf, device=rows.device)
    upper = torch.from_numpy(coordinates.upper(sample)).to(rows)
    chosen = [0]
    while len(chosen) < min(count, len(sample)):
        nearest = torch.minimum(nearest, rows @ columns[chosen[-1]] + upper)
        nearest[chosen[-1]] = -1
        chosen.append(int(nearest.argmax()))
    return sample[chosen]
