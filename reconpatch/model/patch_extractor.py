"""From prepared images to patch features, the same bytes whatever batch an image comes in."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.device import worker_pool
from reconpatch.errors import DataError, ModelError
from reconpatch.model.backbone import Backbone
from reconpatch.model.patch_network import PatchNetwork
from reconpatch.settings import FeatureSettings
from reconpatch.storage.atomic_files import sha256_json

# To be raised when the same weights and parameters come to give other features: caches must not mix them.
_RECIPE = 1


class PatchExtractor:
    """The patch network on a device, for arrays (paper, section 3.1).

    Convolutions give other last bits for batches of another size. So the network always sees batches of
    one size: single images on the CPU, spread over the threads, which is also the fastest there; on CUDA
    batches filled up to ``batch_size``. An image's features then depend on nothing but the image.

    Attributes:
        settings: the parameters that it was made with.
        device: where it computes.
        network: the module.
        grid: (h, w) of the patches of a whole image.
        dim: D, features a patch.
        digest: hex digest of the weights and of every parameter that the features depend on.
        platform: what the features' last bits depend on besides (see `platform`).
    """

    def __init__(self, settings: FeatureSettings, device: torch.device) -> None:
        """Load the network.

        Raises:
            ModelError: as `load_backbone`.
            SettingsError: ``tile`` and ``image_size`` do not fit the network's grid.
        """
        self.settings = settings
        self.device = device
        self.network = PatchNetwork(settings).to(device)
        self.grid, self.dim = self.network.grid, self.network.dim
        self._chunk = 1 if device.type == "cpu" else settings.batch_size
        self._workers: tuple[int, ThreadPoolExecutor] | None = None
        self.digest = extractor_digest(settings, self.backbone.weights_sha256)
        self.platform = platform(device, settings)

    @property
    def backbone(self) -> Backbone:
        """The frozen network of the patch network."""
        return self.network.backbone

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
        given, tiling = torch.from_numpy(np.ascontiguousarray(images)), self.network.tiling
        features = np.empty((len(images), self.grid[0] * self.grid[1], self.dim), np.float16)
        if not len(images):
            return features
        if tiling is None:
            return self._squares(given).flatten(1, 2).numpy()
        for image, block in zip(given, features, strict=True):
            # A row of tiles at a time bounds the memory.
            rows = (self._squares(row[0])[None] for row in tiling.rows(image[None]))
            block[:] = tiling.stitch(rows)[0].flatten(0, 1).numpy()
        return features

    def _squares(self, images: Tensor) -> Tensor:
        """`PatchNetwork.squares` of any number of squares (n, side, side, 3), on the CPU again."""

        @torch.inference_mode()
        def extract(start: int) -> Tensor:
            chunk = images[start : start + self._chunk]
            full = torch.cat([chunk, chunk[-1:].expand(self._chunk - len(chunk), -1, -1, -1)])
            patches: Tensor = self.network.squares(full.to(self.device))[: len(chunk)]
            if not patches.isfinite().all():
                raise ModelError(
                    f"backbone {self.settings.backbone} gives features beyond float16 or not finite; "
                    "check the file in features.weights or choose other features.levels"
                )
            return patches.cpu()

        starts = range(0, len(images), self._chunk)
        threads = torch.get_num_threads() if self.device.type == "cpu" else 1
        # One thread needs no pool; more must not work on one image together, which changes last bits.
        return torch.cat(
            list(map(extract, starts) if threads == 1 else self._pool(threads).map(extract, starts))
        )

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
