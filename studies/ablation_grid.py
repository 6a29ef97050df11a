"""The cells of the ablations, in the shape of the paper's tables 1 to 4: PatchCore beside ReConPatch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconpatch.errors import SettingsError

PATCHCORE, RECONPATCH = "PatchCore", "ReConPatch"
METHODS = (PATCHCORE, RECONPATCH)
_PATCHCORE = {"modulation.enabled": False}
_RECONPATCH = {"modulation.enabled": True}

Pair = tuple[float | None, float | None]
_UNKNOWN: Pair = (None, None)


@dataclass(frozen=True)
class Cell:
    """One detector of an ablation.

    Attributes:
        study: name of the table.
        setting: row of the table.
        method: ``PatchCore`` or ``ReConPatch``.
        changes: values by full parameter name that differ from the study's parameters.
        augmented: whether disturbed copies of the nominal images join the fit.
        paper: what the paper reports for it, image and pixel AUROC in percent (WRN-50 at 224 px, mean of
            MVTec AD); None where it reports nothing.
    """

    study: str
    setting: str
    method: str
    changes: Mapping[str, Any] = field(hash=False)
    augmented: bool = False
    paper: Pair = _UNKNOWN


def ablation_cells(studies: Sequence[str] | None = None) -> list[Cell]:
    """The cells of the named studies, row by row; None takes all of `STUDIES`.

    Raises:
        SettingsError: a study is unknown.
    """
    unknown = sorted(set(studies or ()) - set(STUDIES))
    if unknown:
        raise SettingsError(f"unknown ablation `{unknown[0]}`; there are: {', '.join(STUDIES)}")
    return [cell for name in studies or STUDIES for cell in STUDIES[name]()]


def _coreset() -> Iterator[Cell]:
    paper: dict[float, Pair] = {0.25: (99.24, 98.01), 0.10: (99.27, 98.07), 0.01: (99.49, 98.07)}
    for share, figures in paper.items():
        change = {"coreset.ratio": share}
        row = f"{100 * share:g} %"
        yield Cell("coreset", row, PATCHCORE, _PATCHCORE | change)
        yield Cell("coreset", row, RECONPATCH, _RECONPATCH | change, paper=figures)


def _dimension() -> Iterator[Cell]:
    paper = {
        1024: (99.1, 99.49),
        512: (98.66, 99.56),
        256: (98.45, 99.53),
        128: (98.54, 99.52),
        64: (97.75, 99.14),
    }
    for dim, (patchcore, reconpatch) in paper.items():
        # f as it starts and no training: PatchCore on so many principal directions of its features. Where
        # f is wider than they are it keeps every distance, and this is PatchCore itself.
        untrained = {
            "modulation.dim": dim,
            "modulation.steps": 0,
            "modulation.init": "isometry",
            "modulation.whitening": 0.0,
        }
        yield Cell("dimension", str(dim), PATCHCORE, _RECONPATCH | untrained, paper=(patchcore, None))
        yield Cell(
            "dimension", str(dim), RECONPATCH, _RECONPATCH | {"modulation.dim": dim}, paper=(reconpatch, None)
        )


def _patch() -> Iterator[Cell]:
    paper: dict[tuple[tuple[int, ...], int], Pair] = {
        ((2, 3), 3): (99.56, 98.07),
        ((2, 3), 5): (98.84, 97.82),
        ((1, 2, 3), 3): _UNKNOWN,
        ((1, 2, 3), 5): (98.70, 98.18),
    }
    for (levels, size), figures in paper.items():
        change = {"features.levels": levels, "features.patch_size": size}
        row = f"levels {'+'.join(map(str, levels))}, s {size}"
        yield Cell("patch", row, PATCHCORE, _PATCHCORE | change)
        yield Cell("patch", row, RECONPATCH, _RECONPATCH | change, paper=figures)


def _augmentation() -> Iterator[Cell]:
    for row, augmented, patchcore, reconpatch in (
        ("none", False, 99.10, 99.56),
        ("of the nominal images", True, 95.48, 98.56),
    ):
        yield Cell("augmentation", row, PATCHCORE, _PATCHCORE, augmented, (patchcore, None))
        yield Cell("augmentation", row, RECONPATCH, _RECONPATCH, augmented, (reconpatch, None))


STUDIES = {"coreset": _coreset, "dimension": _dimension, "patch": _patch, "augmentation": _augmentation}
TITLES = {
    "coreset": "Share of the patches in the coreset",
    "dimension": "Dimension of f",
    "patch": "Feature levels and patch size",
    "augmentation": "Augmentation",
}
