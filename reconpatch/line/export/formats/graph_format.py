"""What an export format is: how a graph is written, and how what was written is run for the proof."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

# (B, S, S, 3) uint8 to scores (B,), maps (B, S, S) and whether each image is rejected (B,).
Run = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]]


@dataclass(frozen=True)
class GraphFormat:
    """One export format. torch and the runtime are imported by the functions, so that `--help` stays quick.

    Attributes:
        name: value of ``--format``.
        title: for help texts.
        write: writes a model, as `FittedDetector.module` gives it, of square input side S into an existing
            folder; any number of images may go in at once. It raises ReConPatchError where the extra
            ``export`` is not installed.
        open: opens what ``write`` left in a folder, with at least 1 CPU thread.
        runner: a script of reconpatch/line/export that scores images without this library; it is copied
            beside the graph.
    """

    name: str
    title: str
    write: Callable[["nn.Module", int, Path], None]
    open: Callable[[Path, int], Run]
    runner: str | None = None
