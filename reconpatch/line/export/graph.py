"""The whole detector as one torch graph, from the resized uint8 image to score, map and verdicts."""

import copy
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.detector import ReConPatch
from reconpatch.errors import ModelError
from reconpatch.model.anomaly_map import inside_gain, upsample_and_blur
from reconpatch.model.ensemble import Ensemble
from reconpatch.model.patches import aggregate_patches
from reconpatch.model.tiling import Tiling


class MemberGraph(nn.Module):
    """One detector: normalisation, network, f, search in the bank, re-weighting, map."""

    mean: Tensor
    std: Tensor
    bank: Tensor
    centre: Tensor
    axes: Tensor
    short: Tensor
    norms: Tensor
    neighbours: Tensor
    rows: Tensor
    columns: Tensor
    inside: Tensor
    gain: Tensor
    shares: Tensor

    def __init__(self, detector: ReConPatch) -> None:
        """Take what a fitted detector holds; it stays as it is."""
        super().__init__()
        parts, extractor = detector.parts, detector.extractor
        features, scoring = parts.settings.features, parts.settings.scoring
        self._patch_size, self._aggregation = features.patch_size, features.aggregation
        self._reweighting = scoring.reweighting if len(parts.bank) > 1 else "none"
        self.backbone = copy.deepcopy(extractor.backbone).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for name, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1))
        self.modulation = copy.deepcopy(parts.modulation)
        bank = torch.from_numpy(parts.bank.vectors)
        centre, axes = parts.bank.shortening
        self.register_buffer("bank", bank)
        self.register_buffer("centre", torch.from_numpy(centre))
        self.register_buffer("axes", axes if axes is not None else torch.empty(0))
        short = self._shortened(bank)
        self.register_buffer("short", short.T.contiguous())
        self.register_buffer("norms", short.square().sum(dim=1))
        neighbours = np.zeros((0, 0), np.int64)
        if self._reweighting != "none":
            neighbours = parts.bank.neighbours(scoring.neighbours)
        self.register_buffer("neighbours", torch.from_numpy(neighbours))
        sigma = scoring.blur_sigma
        for name, length in zip(("rows", "columns"), extractor.grid, strict=True):
            self.register_buffer(name, upsample_and_blur(length, features.image_size, sigma))
        inside, gain = np.ones(extractor.grid, bool), np.ones((1, 1), np.float32)
        if parts.region is not None:
            inside = parts.region.cells(extractor.grid)
            gain = inside_gain(inside, parts.region.pixels, sigma)
        self.register_buffer("inside", torch.from_numpy(inside.ravel().astype(np.float32)))
        self.register_buffer("gain", torch.from_numpy(gain))
        self._tiling = extractor.tiling
        shares = np.zeros((0, 0), np.float32) if self._tiling is None else _placed(self._tiling)
        self.register_buffer("shares", torch.from_numpy(shares))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 to scores (B,) and maps (B, S, S)."""
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        patches = self._patches(pixels) if self._tiling is None else self._stitched(pixels, self._tiling)
        batch, height, width, dim = patches.shape
        queries = patches.reshape(batch * height * width, dim)
        if self.modulation is not None:
            queries = self.modulation(queries)
        nearest = (self.norms - 2 * (self._shortened(queries) @ self.short)).argmin(dim=1)
        distances = (self.bank[nearest] - queries).square().sum(dim=1).sqrt()
        if self._reweighting == "patch":
            distances = distances * self._weights(queries, distances, nearest)
        # No distance is below 0, so what does not count is never the largest one.
        distances = (distances.reshape(batch, height * width) * self.inside).reshape(-1)
        grid = distances.reshape(batch, height, width)
        flat = grid.reshape(batch, height * width)
        scores, worst = flat.max(dim=1)
        if self._reweighting == "image":
            place = worst + torch.arange(batch) * (height * width)
            scores = scores * self._weights(queries[place], scores, nearest[place])
        return scores, (self.rows @ (grid @ self.columns.T)) * self.gain

    def _patches(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) to (B, h, w, D)."""
        patches = aggregate_patches(self.backbone(pixels), self._patch_size, self._aggregation)
        # The detector keeps features in half precision, and its bank and threshold come from such.
        return patches.half().float()

    def _stitched(self, pixels: Tensor, tiling: Tiling) -> Tensor:
        """As `Tiling.stitch`, with all tiles of a batch in the network at once."""
        batch, side, count = pixels.shape[0], tiling.tile, len(tiling.starts)
        tiles = [
            pixels[:, :, top : top + side, left : left + side]
            for top in tiling.starts
            for left in tiling.starts
        ]
        blocks = self._patches(torch.cat(tiles))
        cells, dim = blocks.shape[1], blocks.shape[3]
        grid = blocks.reshape(count, count, batch, cells, cells, dim).permute(2, 0, 3, 1, 4, 5)
        grid = grid.reshape(batch, count * cells, count * cells * dim)
        down = (self.shares @ grid).reshape(batch, tiling.grid, count * cells, dim)
        return (self.shares @ down).half().float()

    def _shortened(self, vectors: Tensor) -> Tensor:
        centred = vectors - self.centre
        return centred if self.axes.numel() == 0 else centred @ self.axes

    def _weights(self, queries: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """Eq. 10, as `scoring.patch_scores.reweighting`."""
        around = self.bank[self.neighbours[nearest]]
        to_neighbours = (around - queries[:, None]).square().sum(dim=2).sqrt()
        shift = to_neighbours.amax(dim=1)
        total = (to_neighbours - shift[:, None]).exp().sum(dim=1)
        return (1 - (distances - shift).exp() / total).clamp(min=0)


class EnsembleGraph(nn.Module):
    """The mean of the members' modified z-scores."""

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.members = nn.ModuleList(MemberGraph(member) for member in ensemble.members)
        calibrations = [calibration_of(member) for member in ensemble.members]
        self._scores = [_affine(one.scores) for one in calibrations]
        self._pixels = [_affine(one.pixels) for one in calibrations]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, S, 3) uint8 to scores (B,) and maps (B, S, S)."""
        found = [member(images) for member in self.members]
        scores = [(one - low) / scale for (one, _), (low, scale) in zip(found, self._scores, strict=True)]
        maps = [(one - low) / scale for (_, one), (low, scale) in zip(found, self._pixels, strict=True)]
        return sum(scores) / len(scores), sum(maps) / len(maps)


class DetectorGraph(nn.Module):
    """Scores, maps and verdicts.

    Attributes:
        outputs: the names of what `forward` gives.
    """

    outputs = ("score", "map", "rejected", "to_review")

    def __init__(self, detector: ReConPatch) -> None:
        """Take what a calibrated detector holds.

        Raises:
            ModelError: it is not calibrated: there would be no verdict to prove equal.
        """
        super().__init__()
        calibration = calibration_of(detector)
        self.body = EnsembleGraph(detector) if isinstance(detector, Ensemble) else MemberGraph(detector)
        self._threshold = float32_below(calibration.threshold.value)
        self._review = float32_below(calibration.review.value)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, S, S, 3) uint8 to scores (B,), maps (B, S, S), and two (B,) bool of the scores."""
        scores, maps = self.body(images)
        rejected = scores > self._threshold
        return scores, maps, rejected, (scores > self._review) & ~rejected


def _placed(tiling: Tiling) -> NDArray[np.float32]:
    """(h, n * g) share that each cell of each tile along an axis has in each of the stitched grid's."""
    count, cells = tiling.weights.shape
    shares = np.zeros((tiling.grid, count, cells), np.float32)
    for number, place in enumerate(tiling.cells):
        shares[place, number] = np.diag(tiling.weights[number])
    return shares.reshape(tiling.grid, count * cells)


def calibration_of(detector: ReConPatch) -> Calibration:
    """The detector's calibration.

    Raises:
        ModelError: it has none.
    """
    if detector.calibration is None:
        raise ModelError(
            "the detector is not calibrated: fit it with calibrate.holdout above 0, then export it"
        )
    return detector.calibration


def float32_below(value: float) -> float:
    """The largest float32 not above ``value``: a float32 score lies above either or neither."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-math.inf)))


def _affine(statistics: RobustStatistics) -> tuple[float, float]:
    return statistics.median, statistics.scale
