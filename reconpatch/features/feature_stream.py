"""Patch features of images that are asked for now, a batch at a time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import extract_features
from reconpatch.features.prefetch import ImageLike, iter_batches
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.region import Region


def feature_batches(
    images: list[ImageLike], extractor: PatchExtractor, cache: FeatureCache | None, region: Region | None
) -> Iterator[tuple[list[ImageLike], np.ndarray]]:
    """Extract what the cache lacks; without a cache, or of images that are no files, everything.

    Args:
        images: each a path, a PIL image or an array as `image_array` takes them.
        extractor: the network to use.
        cache: where the features of files are looked up and kept; None: nowhere.
        region: what counts of the images; None: all.

    Yields:
        The images of a batch, and their (B, P, D) float16 features in the region.

    Raises:
        DataError: an image cannot be used; the message names it.
    """
    size = extractor.settings.images_at_once
    if cache is not None and all(isinstance(image, (str, Path)) for image in images):
        stored = extract_features([Path(str(image)) for image in images], extractor, cache, region=region)
        for start in range(0, len(images), size):
            stop = min(start + size, len(images))
            yield images[start:stop], np.stack([stored.block(i) for i in range(start, stop)])
        return
    for indices, batch in iter_batches(images, extractor.settings, batch_size=size):
        features = extractor(batch)
        inside = features if region is None else region.take(features, extractor.grid)
        yield [images[i] for i in indices], inside
