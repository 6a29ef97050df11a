"""The first half of the model: from uint8 pixels to patch features (paper, section 3.1)."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from reconpatch.model.backbone import load_backbone
from reconpatch.model.patches import aggregate_patches
from reconpatch.model.tiling import Tiling, plan_tiles
from reconpatch.settings import FeatureSettings


class PatchNetwork(nn.Module):
    """Normalisation, frozen backbone, aggregation of patches, and tiles where the image is cut into them.

    Attributes:
        backbone: the frozen network.
        grid: (h, w) of the patches of a whole image.
        tiling: how an image is cut into tiles; None: the network sees the whole image.
        dim: D, features a patch.
        autocast: whether the backbone computes in bfloat16.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        """Load the backbone onto the CPU.

        Raises:
            ModelError: as `load_backbone`.
            SettingsError: ``tile`` and ``image_size`` do not fit the network's grid.
        """
        super().__init__()
        self.backbone = load_backbone(settings).to(memory_format=torch.channels_last)
        for name, values in (("mean", self.backbone.mean), ("std", self.backbone.std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(3, 1, 1))
        self._patch_size, self._aggregation = settings.patch_size, settings.aggregation
        self.autocast = settings.precision == "bfloat16"
        side = settings.network_side
        with torch.inference_mode():
            levels = self._levels(torch.zeros((1, side, side, 3), dtype=torch.uint8))
            _, height, width, self.dim = self._aggregate(levels).shape
        self.tiling: Tiling | None = None
        if settings.tile is not None:
            coarsest = min(level.shape[-1] for level in levels)
            self.tiling = plan_tiles(
                settings.image_size, settings.tile, settings.tile_overlap, width, coarsest
            )
            height = width = self.tiling.grid
        self.grid = height, width

    def forward(self, images: Tensor) -> Tensor:
        """(B, S, S, 3) uint8 to (B, P, D) float16, P = h * w row by row."""
        if self.tiling is None:
            return self.squares(images).flatten(1, 2)
        return self.tiling.stitch(self._rows_of_tiles(images, self.tiling)).flatten(1, 2)

    def squares(self, images: Tensor) -> Tensor:
        """Squares that the network sees at once, (n, side, side, 3) uint8, to (n, g, g, D) float16."""
        # Half precision is what the cache holds, so bank and threshold come from such.
        return self._aggregate(self._levels(images)).half()

    def _levels(self, images: Tensor) -> list[Tensor]:
        pixels = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        if not self.autocast:
            levels: list[Tensor] = self.backbone(pixels)
            return levels
        with torch.autocast(images.device.type, torch.bfloat16):
            levels = self.backbone(pixels)
        # Averages of patches are taken in float32 either way.
        return [level.float() for level in levels]

    def _aggregate(self, levels: list[Tensor]) -> Tensor:
        """Feature maps to (B, h, w, D) float32."""
        return aggregate_patches(levels, self._patch_size, self._aggregation)

    def _rows_of_tiles(self, images: Tensor, tiling: Tiling) -> Iterator[Tensor]:
        """All tiles in the network at once; one row after another, (B, n, g, g, D)."""
        tiles = torch.cat([tile for row in tiling.rows(images) for tile in row.unbind(1)])
        blocks = self.squares(tiles)
        count, cells = tiling.weights.shape
        rows = blocks.reshape(count, count, -1, cells, cells, blocks.shape[-1]).transpose(1, 2)
        yield from rows.unbind(0)
