"""A large square image as overlapping tiles, and their patch features as one grid again.

Zero padding spoils features near a tile's edge. So where tiles overlap, the outer quarter of the overlap
counts for nothing, and over the inner half one tile's features fade into the next one's: where the network
sees no further than that quarter, the stitched grid is that of the whole image; elsewhere it has no step.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import SettingsError


@dataclass(frozen=True)
class Tiling:
    """How a square image is cut, the same along both axes.

    Attributes:
        side: S, of the image, in pixels.
        tile: T, of a tile.
        starts: (n,) first pixel of each tile along an axis, ascending.
        weights: (n, g) float32 share that a tile's cells have in the stitched grid; over the tiles that meet
            at a place they add up to 1.
    """

    side: int
    tile: int
    starts: tuple[int, ...]
    weights: NDArray[np.float32]

    @property
    def grid(self) -> int:
        """Cells along an axis of the stitched grid."""
        return int(self.side * self.weights.shape[1] // self.tile)

    @property
    def cells(self) -> tuple[slice, ...]:
        """(n,) where each tile's cells lie in the stitched grid."""
        width = self.weights.shape[1]
        first = (start * width // self.tile for start in self.starts)
        return tuple(slice(start, start + width) for start in first)

    def rows(self, images: Tensor) -> Iterator[Tensor]:
        """One row of tiles after another: (B, n, T, T, 3) of images (B, S, S, 3)."""
        for top in self.starts:
            strip = images[:, top : top + self.tile]
            yield torch.stack([strip[:, :, left : left + self.tile] for left in self.starts], dim=1)

    def stitch(self, rows: Iterable[Tensor]) -> Tensor:
        """Features of whole images; of an iterator no more than one row of tiles' own is held at a time.

        Args:
            rows: (B, n, g, g, D) features of one row of tiles after another.

        Returns:
            (B, h, w, D) float16.
        """
        stitched: Tensor | None = None
        for blocks, down, place in zip(rows, self.weights, self.cells, strict=True):
            if stitched is None:
                shape = (blocks.shape[0], self.grid, self.grid, blocks.shape[-1])
                stitched = torch.zeros(shape, device=blocks.device)
            for block, across, columns in zip(blocks.unbind(1), self.weights, self.cells, strict=True):
                share = torch.from_numpy(down[:, None, None] * across[:, None]).to(block.device)
                stitched[:, place, columns] += share * block
        assert stitched is not None, "there is at least one row of tiles"  # noqa: S101
        return stitched.half()


def plan_tiles(side: int, tile: int, overlap: int, cells: int, coarsest: int) -> Tiling:
    """Cut a square image so that every tile's grid lies on the whole image's.

    Args:
        side: S, of the image (``features.image_size``).
        tile: T (``features.tile``), at most S.
        overlap: pixels that neighbours share at least (``features.tile_overlap``).
        cells: g, of the finest level's grid of one tile along an axis.
        coarsest: likewise of the coarsest level.

    Raises:
        SettingsError: the sides do not fit the network's grids, or tiles cannot overlap so far; the message
            names values that do.
    """
    stride = -(-tile // coarsest)
    if stride * coarsest != tile or tile % cells:
        raise SettingsError(
            f"features.tile is {tile}: must be a multiple of {stride}, the network's coarsest stride; "
            f"set it to {tile // stride * stride or stride} or {(tile // stride + 1) * stride}"
        )
    if tile < side and tile - overlap < stride:
        raise SettingsError(
            f"features.tile_overlap is {overlap}: tiles of {tile} pixels lie {stride} apart at least, the "
            f"network's coarsest stride, and share {tile - stride} at most; set it to {tile - stride}, or "
            f"features.tile to {tile + stride} or more"
        )
    rest = (side - tile) % stride
    if rest:
        raise SettingsError(
            f"features.image_size is {side}: must be features.tile ({tile}) and a multiple of {stride} more, "
            f"the network's coarsest stride; set it to {side - rest} or {side - rest + stride}"
        )
    step = max(stride, (tile - overlap) // stride * stride)
    starts = (*range(0, side - tile, step), side - tile)
    return Tiling(side, tile, starts, _weights(side, tile, starts, overlap, cells))


def _weights(side: int, tile: int, starts: tuple[int, ...], overlap: int, cells: int) -> NDArray[np.float32]:
    pixels = tile // cells
    centres = (np.arange(cells) + 0.5) * pixels
    raw = np.empty((len(starts), cells))
    for weights, start in zip(raw, starts, strict=True):
        # At the image's own edge there is no neighbour to fade into.
        before = centres if start > 0 else np.inf
        behind = tile - centres if start < side - tile else np.inf
        inside = np.minimum(before, behind)
        weights[:] = np.clip((inside - overlap / 4) / max(overlap / 2, 1e-9), 0, 1)
    total = np.zeros(side // pixels)
    places = [slice(start // pixels, start // pixels + cells) for start in starts]
    for weights, place in zip(raw, places, strict=True):
        total[place] += weights
    return np.stack([weights / total[place] for weights, place in zip(raw, places, strict=True)]).astype(
        np.float32
    )
