"""Patch features of a set of images, block by block through the cache."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.data.decoding.image_bytes import read_bytes
from reconpatch.data.images import decode_image
from reconpatch.device import worker_pool
from reconpatch.errors import DataError, ModelError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.prefetch import ImageLike, iter_batches, prepared_batches
from reconpatch.model.patch_extractor import PatchExtractor, platform
from reconpatch.model.preprocess import prepare_image
from reconpatch.model.region import Region
from reconpatch.progress import track
from reconpatch.settings import FeatureSettings

__all__ = ["ImageLike", "PatchFeatures", "extract_features", "image_digest", "iter_batches"]


@dataclass(frozen=True)
class PatchFeatures:
    """Patch features of N images: an index into the cache, which computes again what the cache lost.

    Reading a block raises `DataError` when it is missing and its image has changed or gone.

    Attributes:
        paths: the N image files.
        image_digests: hex SHA-256 of each file's bytes at the time of indexing.
        grid: (h, w) of the patches; P = h * w of them, or those in the region.
        dim: D, features a patch.
        extractor_digest: `PatchExtractor.digest` of the features.
        platform: `PatchExtractor.platform` of this machine.
        cache: where the blocks lie.
        make_extractor: gives the extractor; called only when a block is missing.
        region: what counts: blocks and patches are those inside; None: all. The cache knows nothing of it.
    """

    paths: tuple[Path, ...]
    image_digests: tuple[str, ...]
    grid: tuple[int, int]
    dim: int
    extractor_digest: str
    platform: str
    cache: FeatureCache
    make_extractor: Callable[[], PatchExtractor]
    region: Region | None = None

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def keys(self) -> tuple[str, ...]:
        """What identifies each image's features on any machine: its bytes, the weights, the parameters."""
        return tuple(_sha256(f"{digest} {self.extractor_digest}") for digest in self.image_digests)

    @property
    def entries(self) -> tuple[str, ...]:
        """Under what each image's features lie in the cache of this machine."""
        return tuple(self._entry(i) for i in range(len(self.image_digests)))

    def block(self, i: int) -> NDArray[np.float16]:
        """(P, D) float16 features of image ``i``, read-only."""
        block = self.cache.get(self._entry(i))
        if block is None or block.shape != (self.grid[0] * self.grid[1], self.dim):
            block = next(self._compute([i]))
        return block if self.region is None else self.region.take(block, self.grid)

    def blocks(self) -> Iterator[NDArray[np.float16]]:
        """The (P, D) float16 block of one image after another."""
        self.fill()
        return (self.block(i) for i in range(len(self)))

    @property
    def patches(self) -> int:
        """Number N*P of all patches."""
        return len(self) * self.patches_per_image

    @property
    def patches_per_image(self) -> int:
        """P: all of an image, or those in the region."""
        return self.grid[0] * self.grid[1] if self.region is None else self.region.patches(self.grid).size

    def as_array(self) -> NDArray[np.float16]:
        """All N*P patches in memory at once, (N*P, D) float16."""
        return self.take(np.arange(self.patches))

    def take(self, rows: NDArray[np.integer]) -> NDArray[np.float16]:
        """Chosen patches, reading each image's block once; memory is that of the result.

        Args:
            rows: (n,) rows of `as_array`, ascending.

        Returns:
            (n, D) float16, equal to ``as_array()[rows]``.

        Raises:
            ValueError: the rows are not ascending or not all there.
        """
        if len(rows) and (rows[0] < 0 or rows[-1] >= self.patches or (np.diff(rows) < 0).any()):
            raise ValueError(f"rows must be ascending and below {self.patches}")
        patches = self.patches_per_image
        ends = np.searchsorted(rows, patches * np.arange(1, len(self) + 1))
        array = np.empty((len(rows), self.dim), np.float16)
        start = 0
        for i, (block, end) in enumerate(zip(self.blocks(), ends, strict=True)):
            array[start:end] = block[rows[start:end] - i * patches]
            start = end
        return array

    def subset(self, indices: Iterable[int]) -> "PatchFeatures":
        """The images at the given positions, in that order."""
        chosen = [int(i) for i in indices]
        return replace(
            self,
            paths=tuple(self.paths[i] for i in chosen),
            image_digests=tuple(self.image_digests[i] for i in chosen),
        )

    def of_content(
        self, image_digests: Sequence[str], files: Mapping[str, Path] | None = None
    ) -> "PatchFeatures":
        """Features of other images that are known by content alone, as far as they are at hand.

        Args:
            image_digests: hex SHA-256 of each image's bytes.
            files: where images of these digests lie.

        Returns:
            Those whose block is in the cache or whose file is among ``files``, in the order given.
        """
        found = files or {}
        asked = replace(
            self,
            paths=tuple(found.get(digest, Path(digest)) for digest in image_digests),
            image_digests=tuple(image_digests),
        )
        at_hand = (
            digest in found or self.cache.get(asked._entry(i)) is not None
            for i, digest in enumerate(image_digests)
        )
        return asked.subset(np.flatnonzero(np.fromiter(at_hand, dtype=bool)))

    def fill(self, workers: int | None = None) -> None:
        """Compute the blocks that the cache lacks, each image's once, in parallel and with progress."""
        lacking = {self._entry(i): i for i in range(len(self))}
        missing = [i for entry, i in lacking.items() if entry not in self.cache]
        if missing:
            for _ in track(self._compute(missing, workers), "features", total=len(missing)):
                pass

    def to_index(self, root: Path) -> dict[str, Any]:
        """What another process needs to find the same features, as a JSON value.

        Args:
            root: folder that the paths are written relative to (posix); images elsewhere keep their path.
        """
        return {
            "extractor": self.extractor_digest,
            "grid": list(self.grid),
            "dim": self.dim,
            "region": None if self.region is None else self.region.to_dict(),
            "images": [
                {"path": _relative(path, root), "sha256": digest, "key": key}
                for path, digest, key in zip(self.paths, self.image_digests, self.keys, strict=True)
            ],
        }

    @classmethod
    def from_index(
        cls,
        index: Mapping[str, Any],
        root: Path,
        cache: FeatureCache,
        settings: FeatureSettings,
        device: torch.device,
    ) -> "PatchFeatures":
        """Read what `to_index` gave, without hashing an image or loading a network.

        Args:
            index: the JSON value.
            root: folder that its paths are relative to.
            cache: where the blocks lie.
            settings: parameters of the extractor that a missing block needs.
            device: where that would compute.
        """
        return cls(
            paths=tuple(root / image["path"] for image in index["images"]),
            image_digests=tuple(image["sha256"] for image in index["images"]),
            grid=(index["grid"][0], index["grid"][1]),
            dim=index["dim"],
            extractor_digest=index["extractor"],
            platform=platform(device, settings),
            cache=cache,
            make_extractor=once(lambda: PatchExtractor(settings, device)),
            region=None if index.get("region") is None else Region.from_dict(index["region"]),
        )

    def _entry(self, i: int) -> str:
        # The platform decides last bits only, so it is no part of the key that an index holds.
        return _sha256(f"{self.image_digests[i]} {self.extractor_digest} {self.platform}")

    def _compute(self, indices: Sequence[int], workers: int | None = None) -> Iterator[NDArray[np.float16]]:
        extractor = self.make_extractor()
        if extractor.digest != self.extractor_digest:
            raise ModelError(
                "features were indexed with other weights or `features` parameters than those given now "
                f"({self.extractor_digest[:12]}, {extractor.digest[:12]}); extract them again"
            )

        def load(i: int) -> NDArray[np.uint8]:
            data = _read(self.paths[i])
            if hashlib.sha256(data).hexdigest() != self.image_digests[i]:
                raise DataError(
                    f"{self.paths[i]}: has changed since its features were indexed; run this again"
                )
            return prepare_image(decode_image(data, str(self.paths[i])), extractor.settings)

        for batch, images in prepared_batches(load, indices, extractor.settings.images_at_once, workers):
            for i, block in zip(batch, extractor(images), strict=True):
                self.cache.put(self._entry(i), block)
                yield block


def extract_features(
    paths: Iterable[str | Path],
    extractor: PatchExtractor,
    cache: FeatureCache,
    *,
    region: Region | None = None,
    workers: int | None = None,
) -> PatchFeatures:
    """Index images by content and compute what the cache lacks, decoding ahead of the network.

    Memory stays that of a few batches, however many images there are.

    Args:
        paths: image files; the same content is computed once, wherever it lies.
        extractor: the network to use.
        cache: where the blocks go.
        region: what counts of the images; None: all.
        workers: threads that read and decode; None: as many as torch has in the calling thread.

    Raises:
        DataError: an image cannot be read, or changes meanwhile; the message names it.
    """
    features = index_features(paths, extractor, cache, region=region, workers=workers)
    features.fill(workers)
    return features


def index_features(
    paths: Iterable[str | Path],
    extractor: PatchExtractor,
    cache: FeatureCache,
    *,
    region: Region | None = None,
    workers: int | None = None,
) -> PatchFeatures:
    """Index images by content; what the cache lacks is computed when it is read. As `extract_features`."""
    files = tuple(Path(path) for path in paths)
    pool = worker_pool(workers or torch.get_num_threads())
    try:
        digests = tuple(track(pool.map(image_digest, files), "hash images", total=len(files)))
    finally:
        pool.shutdown(cancel_futures=True)
    return PatchFeatures(
        paths=files,
        image_digests=digests,
        grid=extractor.grid,
        dim=extractor.dim,
        extractor_digest=extractor.digest,
        platform=extractor.platform,
        cache=cache,
        make_extractor=lambda: extractor,
        region=region,
    )


def image_digest(path: Path) -> str:
    """Hex SHA-256 of an image file's bytes.

    Raises:
        DataError: it cannot be read; the message names it.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
