"""Which nominal training images fit a detector and which calibrate it.

Images that were there from the start are held out by a seeded draw of whole groups. Of arrivals it is the
calibration lot: it was drawn when they came, before anybody looked at their scores, and no score keeps an
image of the lot out of it. docs/adr/0012-calibration-lot.md says why.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.batch_folders import has_arrived, is_in_lot
from reconpatch.data.groups import hold_out_groups, join_groups
from reconpatch.errors import DataError
from reconpatch.settings import Settings

_SALT = "reconpatch calibration lot "  # no other use of the same hashes draws the same images


@dataclass(frozen=True)
class NominalSplit:
    """Which nominal training images fit the detector and which calibrate it.

    Attributes:
        fit: positions of the images that train f and fill the bank, ascending int64.
        holdout: positions of the held-out images, ascending int64; may be empty.
        groups: the group of each image, those that share an image's content being one.
        calibrates: positions of the images whose scores calibrate it, ascending int64: those held out, or of
            a cross-fit all that no score has chosen, which fit it too.
    """

    fit: NDArray[np.int64]
    holdout: NDArray[np.int64]
    groups: Sequence[str]
    calibrates: NDArray[np.int64]

    def to_dict(self) -> dict[str, list[int] | list[str]]:
        """A JSON object; `from_dict` reads it."""
        return {
            "fit": self.fit.tolist(),
            "holdout": self.holdout.tolist(),
            "groups": list(self.groups),
            "calibrates": self.calibrates.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NominalSplit":
        """What `to_dict` wrote."""
        fit, holdout, calibrates = (
            np.array(values[name], dtype=np.int64) for name in ("fit", "holdout", "calibrates")
        )
        return cls(fit, holdout, list(values["groups"]), calibrates)

    @property
    def calibrating_groups(self) -> int:
        """How many groups calibrate; each counts once."""
        return len({self.groups[i] for i in self.calibrates})


def lot_share(settings: Settings) -> float:
    """Share of the arrivals that is to calibrate, in [0, 0.5]; 0 where nothing is held out."""
    return settings.calibrate.holdout if settings.calibrate.calibration == "holdout" else 0.0


def is_drawn(key: str, share: float) -> bool:
    """Whether a group of arrivals is of the calibration lot: by its name alone, the same on every machine.

    Args:
        key: of the group, as `reconpatch.data.training_images.group_keys` names it.
        share: of all groups that are drawn, in [0, 1]. A larger share draws these and others.
    """
    digest = hashlib.sha256(f"{_SALT}{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2.0**64


def split_nominal(
    paths: Sequence[str | Path], groups: Sequence[str], digests: Sequence[str], settings: Settings
) -> NominalSplit:
    """Hold out whole groups of the nominal training images for calibration.

    Images of the same content are of one group, whatever they are called: no content is on both sides. A
    group of arrivals alone is held out where it is of the calibration lot; of the others the draw among the
    images that were there from the start decides, which arrivals leave as it was.

    Args:
        paths: (N,) where each nominal training image lies; tells arrivals and their calibration lot.
        groups: (N,) the group of each.
        digests: (N,) content hash of each.
        settings: ``calibrate.calibration`` (``crossfit`` holds nothing out), ``calibrate.holdout`` (0 holds
            nothing out) and ``seed``.

    Raises:
        DataError: there is no nominal training image.
    """
    if not len(groups):
        raise DataError("no nominal training image was given; at least one is needed to fit a detector")
    joined = join_groups(groups, digests)
    if settings.calibrate.calibration == "crossfit":
        return NominalSplit(np.arange(len(groups)), np.arange(0), joined, _unchosen(paths, joined))
    held = np.zeros(len(groups), dtype=bool)
    if share := lot_share(settings):
        held = _held_out(paths, groups, digests, joined, share, settings.seed)
    holdout = np.flatnonzero(held)
    return NominalSplit(np.flatnonzero(~held), holdout, joined, holdout)


def _unchosen(paths: Sequence[str | Path], joined: Sequence[str]) -> NDArray[np.int64]:
    """Positions of the images of groups that no score has chosen; all where there are not two such groups."""
    names, every = (Path(path).as_posix() for path in paths), np.asarray(joined, dtype=str)
    unchosen = np.array([not has_arrived(name) or is_in_lot(name) for name in names], dtype=bool)
    positions = np.flatnonzero(np.isin(every, every[unchosen]))
    return positions if len(set(every[positions])) > 1 else np.arange(len(every))


def _held_out(
    paths: Sequence[str | Path],
    groups: Sequence[str],
    digests: Sequence[str],
    joined: Sequence[str],
    share: float,
    seed: int,
) -> NDArray[np.bool_]:
    names = [Path(path).as_posix() for path in paths]
    chosen = np.array([is_in_lot(name) for name in names], dtype=bool)
    first = [i for i, name in enumerate(names) if not has_arrived(name)]
    # Joined among themselves: neither names nor sizes that arrivals bring change the draw.
    of_first = join_groups([groups[i] for i in first], [digests[i] for i in first])
    chosen[first] = hold_out_groups(of_first, share, seed)
    every = np.asarray(joined, dtype=str)
    held = np.isin(every, every[chosen])
    if held.all() or not (held.any() or len(first)):
        # Of nothing but arrivals, none or all of the lot: something must fit and something calibrate.
        return hold_out_groups(joined, share, seed)
    return held
