"""From prepared images to patch features, the same bytes whatever batch an image comes in."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.device import worker_pool
from reconpatch.errors import DataError, ModelError
from reconpatch.model.backbone import load_backbone
from reconpatch.model.patches import aggregate_patches
from reconpatch.model.tiling import plan_tiles
from reconpatch.settings import FeatureSettings
from reconpatch.storage.atomic_files import sha256_json

# To be raised when the same weights and parameters come to give other features: caches must not mix them.
_RECIPE = 1


class PatchExtractor:
    """Patch features of a frozen backbone (paper, section 3.1).

    Convolutions give other last bits for batches of another size. So the network always sees batches of
    one size: single images on the CPU, spread over the threads, which is also the fastest there; on CUDA
    batches filled up to ``batch_size``. An image's features then depend on nothing but the image.

    Attributes:
        settings: the parameters that it was made with.
        device: where it computes.
        backbone: the frozen network.
        grid: (h, w) of the patches of a whole image.
        tiling: how an image is cut for the network; None where it sees all of it at once.
        dim: D, features a patch.
        digest: hex digest of the weights and of every parameter that the features depend on.
        platform: what the features' last bits depend on besides (see `platform`).
    """

    def __init__(self, settings: FeatureSettings, device: torch.device) -> None:
        """Load the backbone.

        Raises:
            ModelError: as `load_backbone`.
            SettingsError: ``tile`` and ``image_size`` do not fit the network's grid.
        """
        self.settings = settings
        self.device = device
        self.backbone = load_backbone(settings)
        self.backbone.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = 255 * torch.tensor(self.backbone.mean, device=device).view(3, 1, 1)
        self._std = 255 * torch.tensor(self.backbone.std, device=device).view(3, 1, 1)
        self._bfloat16 = settings.precision == "bfloat16"
        self._chunk = 1 if device.type == "cpu" else settings.batch_size
        self._workers: tuple[int, ThreadPoolExecutor] | None = None
        side = settings.network_side
        levels = self._levels(np.zeros((self._chunk, side, side, 3), np.uint8))
        _, height, width, self.dim = self._aggregate(levels).shape
        self.tiling = None
        if settings.tile is not None:
            coarsest = min(level.shape[-1] for level in levels)
            self.tiling = plan_tiles(
                settings.image_size, settings.tile, settings.tile_overlap, width, coarsest
            )
            height = width = self.tiling.grid
        self.grid = height, width
        self.digest = extractor_digest(settings, self.backbone.weights_sha256)
        self.platform = platform(device, settings)

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Extract the patch features of prepared images, on the CPU in as many threads as torch has here.

        Args:
            images: (B, S, S, 3) uint8 from `prepare_image`.

        Returns:
            (B, P, D) float16, P = h * w patches row by row.

        Raises:
            DataError: the images have another shape or type.
            ModelError: a feature is not a number or too large for float16.
        """
        side = self.settings.image_size
        if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
            raise DataError(
                f"images of shape {images.shape} and type {images.dtype}: "
                f"must be (B, {side}, {side}, 3) uint8 from prepare_image"
            )
        if self.tiling is None:
            return self._extract(images)
        features = np.empty((len(images), self.grid[0] * self.grid[1], self.dim), np.float16)
        for image, block in zip(images, features, strict=True):
            block[:] = self.tiling.stitch(image, self._extract, self.dim)
        return features

    def _extract(self, images: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Features of squares of the network's side."""
        side = self.grid if self.tiling is None else self.tiling.weights.shape[1:] * 2
        features = np.empty((len(images), side[0] * side[1], self.dim), np.float16)

        def extract(start: int) -> None:
            chunk = images[start : start + self._chunk]
            full = np.concatenate([chunk, np.repeat(chunk[-1:], self._chunk - len(chunk), axis=0)])
            patches = self._aggregate(self._levels(full))[: len(chunk)].half()
            if not patches.isfinite().all():
                raise ModelError(
                    f"backbone {self.settings.backbone} gives features beyond float16 or not finite; "
                    "check the file in features.weights or choose other features.levels"
                )
            features[start : start + len(chunk)] = patches.flatten(1, 2).cpu().numpy()

        starts = range(0, len(images), self._chunk)
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        # One thread needs no pool; more must not work on one image together, which changes last bits.
        for _ in map(extract, starts) if threads == 1 else self._pool(threads).map(extract, starts):
            pass
        return features

    def _levels(self, images: NDArray[np.uint8]) -> list[Tensor]:
        """Feature maps, float32, of (B, side, side, 3) uint8."""
        with torch.inference_mode():
            pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)
            normalised = (pixels.float() - self._mean) / self._std
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bfloat16):
                levels = self.backbone(normalised)
            # Averages of patches are taken in float32 either way.
            return [level.float() for level in levels]

    def _aggregate(self, levels: list[Tensor]) -> Tensor:
        """Feature maps to (B, h, w, D) float32."""
        with torch.inference_mode():
            return aggregate_patches(levels, self.settings.patch_size, self.settings.aggregation)

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        if self._workers is None or self._workers[0] != threads:
            self._workers = threads, worker_pool(threads)
        return self._workers[1]


def platform(device: torch.device, settings: FeatureSettings) -> str:
    """What the last bits of features depend on besides `PatchExtractor.digest`.

    Versions and hardware change rounding. Naming them keeps one cache folder usable for several of them
    and every run reproducible byte for byte on its own.
    """
    if device.type == "cpu":
        unit = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    else:
        unit = f"{torch.cuda.get_device_name(device)} batch {settings.batch_size}"
    return f"{unit}, torch {torch.__version__}, pillow {PIL.__version__}"


def extractor_digest(settings: FeatureSettings, weights_sha256: str) -> str:
    """`PatchExtractor.digest` of the extractor with these weights, without loading it."""
    # Where the weights lie and how many images go in at once do not change the features.
    parameters = settings.model_dump(mode="json", exclude={"weights", "batch_size"})
    parameters["levels"] = sorted(set(settings.levels))
    if settings.tile is None:
        del parameters["tile"], parameters["tile_overlap"]
    return sha256_json({"recipe": _RECIPE, "weights": weights_sha256, "features": parameters})
