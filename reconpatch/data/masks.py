"""Which ground-truth mask belongs to which image, by names alone."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

MASK_FOLDERS = ("ground_truth", "masks")
# The bare name comes last: where `a.png` and `a_mask.png` both lie among the masks, the latter is surely one.
MASK_SUFFIXES = ("_mask", "_gt", "_label", "_seg", "_ground_truth", "-mask", "")


def masks_beside(paths: Sequence[str]) -> set[str]:
    """Those of ``paths`` that are masks beside their image: ``a_label.bmp`` where there is an ``a.jpg``."""
    known = {_key(path) for path in paths}
    return {path for path in paths if any(owner in known for owner in _owners(path))}


def match_masks(images: Iterable[str], masks: Mapping[str, str]) -> dict[str, str]:
    """Find each image's mask.

    Args:
        images: posix paths relative to the category root.
        masks: of each mask's path the path that it would have beside its image.

    Returns:
        image path -> mask path, for the images that have one; of several, the first by suffix, then by path.
        A mask that is called as the image to the letter goes before one of another case, and one that is so
        called for another image is not taken.
    """
    index: dict[tuple[str, str], list[str]] = {}
    for mask in sorted(masks):
        index.setdefault(_key(masks[mask]), []).append(mask)
    matches: dict[str, str] = {}
    alike: dict[str, list[str]] = {}
    for image in images:
        folder, stem = _key(image)
        found = [mask for suffix in MASK_SUFFIXES for mask in index.get((folder, stem + suffix), ())]
        own = [mask for mask in found if _stem(mask).startswith(_stem(image))]
        if own:
            matches[image] = own[0]
        elif found:
            alike[image] = found
    taken = set(matches.values())
    for image, found in alike.items():
        free = [mask for mask in found if mask not in taken]
        if free:
            matches[image] = free[0]
    return matches


def _owners(path: str) -> list[tuple[str, str]]:
    """Keys of the images whose mask ``path`` would be, by its suffix."""
    folder, stem = _key(path)
    return [
        (folder, stem.removesuffix(suffix)) for suffix in MASK_SUFFIXES if suffix and stem.endswith(suffix)
    ]


def _key(path: str) -> tuple[str, str]:
    # Case and the two ways of writing an accent differ between the systems that images come from.
    return unicodedata.normalize("NFC", str(PurePosixPath(path).parent)), _stem(path).casefold()


def _stem(path: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(path).stem)
