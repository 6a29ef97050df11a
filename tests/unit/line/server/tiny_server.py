"""A tiny detector's parameters, and images for it."""

import io

import numpy as np
from PIL import Image

TINY = {
    "features.image_size": 64,
    "modulation.enabled": False,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.4,
    "threads": 1,
    "device": "cpu",
}


def png(seed: int = 0, side: int = 64, *, spoiled: bool = False) -> bytes:
    """A texture as PNG, with a red square on it when spoiled."""
    pixels = np.random.default_rng(seed).normal(128, 12, (side, side, 1)).repeat(3, axis=2)
    if spoiled:
        pixels[20:40, 20:40] = [250, 20, 20]
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def form(*images: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Images as a multipart form."""
    return [("images", (f"{place}.png", image, "image/png")) for place, image in enumerate(images)]
