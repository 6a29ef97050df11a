"""Images decoded and prepared in parallel, ahead of whoever takes the batches."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.images import image_array, read_image
from reconpatch.device import worker_pool
from reconpatch.errors import DataError
from reconpatch.model.preprocess import prepare_image
from reconpatch.settings import FeatureSettings

ImageLike = str | Path | NDArray[np.uint8] | NDArray[np.uint16] | Image.Image


def iter_batches(
    images: Sequence[ImageLike],
    settings: FeatureSettings,
    *,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Yield batches of prepared images while the next ones are decoded, in threads and without a deadline.

    Args:
        images: each a path, a PIL image or an array as `image_array` takes them.
        settings: how images are prepared.
        batch_size: images a batch; None: ``settings.images_at_once``.
        workers: decoding threads; None: as many as torch has in the calling thread.

    Yields:
        Positions in ``images``, ascending, and the (B, S, S, 3) uint8 images there; the last batch may
        be smaller. At most two further batches wait in memory.

    Raises:
        DataError: an image cannot be used; the message names it.
    """

    def load(index: int) -> NDArray[np.uint8]:
        return _load(images[index], index, settings)

    return prepared_batches(load, range(len(images)), batch_size or settings.images_at_once, workers)


def prepared_batches(
    load: Callable[[int], NDArray[np.uint8]],
    indices: Sequence[int],
    batch_size: int,
    workers: int | None = None,
) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
    """Yield (indices, (B, S, S, 3) uint8) batches of what ``load`` gives, called in threads, in order."""
    if not indices:
        return
    pool = worker_pool(min(workers or torch.get_num_threads(), len(indices)))
    waiting: deque[Future[NDArray[np.uint8]]] = deque()
    try:
        for start in range(0, len(indices), batch_size):
            # The batch to come and two more; what is further away stays on disk.
            done = start + len(waiting)
            waiting.extend(pool.submit(load, index) for index in indices[done : start + 3 * batch_size])
            part = list(indices[start : start + batch_size])
            yield part, np.stack([waiting.popleft().result() for _ in part])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _load(image: ImageLike, index: int, settings: FeatureSettings) -> NDArray[np.uint8]:
    if isinstance(image, (str, Path)):
        return prepare_image(read_image(Path(image)), settings)
    try:
        return prepare_image(image_array(image), settings)
    except DataError as error:
        raise DataError(f"image {index}: {error}") from None
