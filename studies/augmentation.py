"""Disturbed copies of the nominal training images, which join them in a fit."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from reconpatch.data.images import read_image
from reconpatch.evaluation.corruptions import CORRUPTIONS
from reconpatch.progress import track
from reconpatch.storage.atomic_files import atomic_folder, sha256_file

_KINDS = ("rotation", "translation", "brightness and contrast", "blur")
_PROBABILITY = 0.5


def augment(table: pd.DataFrame, folder: Path, *, copies: int, seed: int) -> pd.DataFrame:
    """Add randomly turned, shifted, lit and blurred copies of the nominal training images.

    Each copy gets each of the four disturbances of `corruptions` with probability 1/2, at their stated
    strengths. A copy is of its image's group, so that both are held out or neither is. The same arguments
    give the same bytes.

    Args:
        table: a category's manifest.
        folder: where the copies are written as PNG, unless an earlier call has done it.
        copies: of each image, 1 or more.
        seed: of what is done to which copy.

    Returns:
        The manifest with a row more for each copy; ``path`` of a copy is absolute.

    Raises:
        DataError: an image cannot be read.
    """
    nominal = table[(table["split"] == "train") & (table["label"] == 0)]
    if not folder.is_dir():
        _write(nominal, Path(table.attrs["root"]), folder, copies, seed)
    added = []
    for number in range(len(nominal) * copies):
        file = folder.absolute() / _name(number)
        row = nominal.iloc[number // copies].copy()
        row["path"], row["sha256"] = file.as_posix(), sha256_file(file)
        added.append(row)
    joined = pd.concat([table, pd.DataFrame(added).astype(table.dtypes)], ignore_index=True)
    joined.attrs = dict(table.attrs)
    return joined


def _write(nominal: pd.DataFrame, root: Path, folder: Path, copies: int, seed: int) -> None:
    kinds = [kind for kind in CORRUPTIONS if kind.name in _KINDS]
    with atomic_folder(folder) as temporary:
        for number in track(range(len(nominal) * copies), "augmentation"):
            image = read_image(root / nominal["path"].iloc[number // copies])
            nothing = np.zeros(image.shape[:2], dtype=bool)
            drawn = np.random.default_rng([seed, number]).random(len(kinds)) < _PROBABILITY
            for kind in (kind for kind, chosen in zip(kinds, drawn, strict=True) if chosen):
                image, _ = kind(image, nothing, seed + number)
            Image.fromarray(image).save(temporary / _name(number))


def _name(number: int) -> str:
    return f"{number:06}.png"
