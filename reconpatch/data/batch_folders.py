"""Where arrivals lie in a category: a folder a batch, and in it apart those that calibrate.

The path alone says which images have arrived and which of them are of the calibration lot, so a fit needs no
table beside the images to know it.
"""

import re

BATCH = "arrivals-{}"  # folder of a batch that joins
LOT = "+calibration"  # folder below it
_ARRIVED = re.compile(rf"(?:^|/){BATCH.format('[0-9a-f]{12}')}/(?P<lot>{re.escape(LOT)}/)?(?P<name>.+)$")


def target_in_batch(name: str, in_lot: bool) -> str:
    """Where an image of the inbox lies below its batch's folder; posix, as ``name``."""
    if in_lot:
        return f"{LOT}/{name}"
    # A folder of the inbox that is called like the lot makes no lot.
    return f"inbox/{name}" if name.startswith(f"{LOT}/") else name


def has_arrived(path: str) -> bool:
    """Whether an image came by an inbox, by its posix path."""
    return _ARRIVED.search(path) is not None


def is_in_lot(path: str) -> bool:
    """Whether an arrival is of the calibration lot, by its posix path."""
    found = _ARRIVED.search(path)
    return found is not None and found["lot"] is not None


def name_in_inbox(path: str) -> str | None:
    """The name that an arrival had in the inbox; None of an image that did not arrive there."""
    found = _ARRIVED.search(path)
    return None if found is None else found["name"]


def without_lot(path: str) -> str:
    """The path that an arrival would have if it were not of the lot: what a group pattern is searched in."""
    found = _ARRIVED.search(path)
    if found is None or found["lot"] is None:
        return path
    return path[: found.start("lot")] + path[found.end("lot") :]
