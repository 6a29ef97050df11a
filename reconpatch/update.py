"""The steps of an update: new nominal images for a fitted detector, without its old ones.

docs/adr/0007-update.md says what an update keeps of a fit's guarantees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from reconpatch.calibration.calibrate import calibrate
from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.held_out_images import image_statistics_of
from reconpatch.coreset.bank_selection import modulated, select_bank
from reconpatch.coreset.k_center import coreset_size
from reconpatch.data.groups import join_groups
from reconpatch.data.nominal_split import NominalSplit, split_nominal
from reconpatch.data.training_images import TrainingSet, group_keys, group_of_content
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import DataError, ModelError, SettingsError
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import training_set
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation, Modulation
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.training.fit_modulation import sample_patches
from reconpatch.training.training_loop import train_modulation

Mode = Literal["frozen", "fine-tune"]
FINE_TUNE_STEPS = 100


def check_mode(mode: str, settings: Settings) -> None:
    """Refuse what cannot be done.

    Raises:
        SettingsError: there is no such mode, or there is no f to fine-tune.
    """
    if mode not in get_args(Mode):
        raise SettingsError(f"mode: {mode!r} is none of {', '.join(get_args(Mode))}")
    if mode == "fine-tune" and not settings.modulation.enabled:
        raise SettingsError("mode fine-tune: this detector is plain PatchCore and has no f; use mode frozen")


def update_parts(
    parts: FittedParts,
    given: PatchFeatures,
    groups: Sequence[str],
    mode: Mode,
    files: Mapping[str, Path],
    settings: Settings,
) -> FittedParts:
    """The parts of a fitted detector with new nominal images added; those given are left as they are.

    Args:
        parts: of the detector before.
        given: features of images; those that it knows already say what belongs together, and are not learnt
            again.
        groups: the group of each.
        mode: what happens to f.
        files: image files by content, where held-out images are looked for that the cache lacks.
        settings: of the detector, with this machine's device and threads.

    Raises:
        DataError: the detector knows every image.
        ModelError: a fine-tuned detector could not be calibrated with the held-out images at hand.
    """
    modulation, bank, known = parts.modulation, parts.bank, parts.training_set
    split = split_new(given, groups, known, settings)
    after = extend(known, training_set(given, groups, split), all_pairs(given, groups))
    fresh = given.subset(split.fit)
    files = {**files, **dict(zip(given.image_digests, given.paths, strict=True))}
    added = [given.image_digests[i] for i in split.holdout]
    holdout = given.of_content((*known.holdout, *sorted(added)), files)
    group_of = dict(after.holdout_pairs)
    held_groups = [group_of[digest] for digest in holdout.image_digests]
    if mode == "fine-tune" and isinstance(modulation, Modulation) and len(fresh):
        if parts.calibration is not None and not can_recalibrate(parts.calibration, held_groups):
            raise ModelError(
                f"fine-tune changes every distance, and only {len(set(held_groups))} of the "
                f"{parts.calibration.threshold.n} held-out groups that the threshold needs are at hand; "
                "give the fit's images as `earlier`, the fit's feature cache, or use mode frozen"
            )
        modulation, bank = fine_tune(modulation, bank, fresh, settings)
    if len(fresh):
        bank = merge_bank(bank, fresh, modulation, settings)
    return replace(
        parts,
        modulation=modulation,
        bank=bank,
        calibration=recalibrate(parts.calibration, holdout, held_groups, modulation, bank, settings),
        training_set=after,
    )


def split_new(
    given: PatchFeatures, groups: Sequence[str], known: TrainingSet, settings: Settings
) -> NominalSplit:
    """Hold out of new images as a fit does, but keep a group that the detector knows on its side.

    New images of a held-out group are held out: in the bank they would lower the scores that the threshold
    is made from. Those of a group that fits the detector fit it too: their scores would be no evidence. Of a
    group that touches both, held-out comes first. What belongs together is asked of all given images, since
    a known one may be all that ties a new one to its group.

    Args:
        given: features of images, known ones among them.
        groups: the group of each.
        known: the detector's training images.
        settings: as for `split_nominal`, which splits the new images of unknown groups.

    Returns:
        Positions in ``given`` of the new images, each content once.

    Raises:
        DataError: the detector knows every image.
    """
    digests = given.image_digests
    positions = new_images(digests, known)
    joined = np.array(join_groups(groups, digests), dtype=str)
    pairs = [*all_pairs(given, groups), *known.fit_pairs, *known.holdout_pairs]
    # By the names given now and by those that the detector keeps.
    tied = join_groups(
        [*groups, *(group for _, group in pairs)], [*digests, *(digest for digest, _ in pairs)]
    )
    whole = np.array(tied[: len(digests)], dtype=str)
    of_known = np.array(tied[2 * len(digests) :], dtype=str)
    fits, held = (
        np.isin(whole, of_known[place]) for place in np.split(np.arange(len(known)), [len(known.fit)])
    )
    unknown = positions[~(held | fits)[positions]]
    if len(unknown):
        paths, content = ([values[i] for i in unknown] for values in (given.paths, digests))
        held[unknown[split_nominal(paths, joined[unknown].tolist(), content, settings).holdout]] = True
    holdout = positions[held[positions]]
    return NominalSplit(positions[~held[positions]], holdout, joined.tolist(), holdout)


def all_pairs(given: PatchFeatures, groups: Sequence[str]) -> list[tuple[str, str]]:
    """(digest, group as a detector names it) of each image."""
    keys = group_keys(given.paths, groups, given.image_digests)
    return list(zip(given.image_digests, keys, strict=True))


def new_images(image_digests: Sequence[str], known: TrainingSet) -> np.ndarray:
    """Positions of the images that are not known yet, each content once: int64, ascending.

    An image that calibrates the detector must not get into its bank, whatever it is called now.

    Raises:
        DataError: the detector knows every one of them.
    """
    seen = set(known.fit + known.holdout)
    positions = []
    for position, digest in enumerate(image_digests):
        if digest not in seen:
            positions.append(position)
            seen.add(digest)
    if not positions:
        raise DataError(f"update: the detector knows all {len(image_digests)} images already; give new ones")
    return np.array(positions)


def fine_tune(
    modulation: Modulation, bank: MemoryBank, features: PatchFeatures, settings: Settings
) -> tuple[Modulation, MemoryBank]:
    """Train f a little further, and move the bank with it.

    A square map A, which starts as a rotation, is trained on f's outputs as f was on patch features: those of
    the bank's vectors, so that what f knew is not forgotten, and of at most as many new patches.
    A f is the new f. A bank vector f(x) becomes A f(x) without its patch x, which is not kept.

    Args:
        modulation: f.
        bank: (M, dim) vectors in f's space.
        features: of the new images that fit.
        settings: section ``modulation``; 100 steps take the place of its steps or epochs.
    """
    limit_threads(settings.threads)
    short = settings.modulation.model_copy(
        update={"steps": FINE_TUNE_STEPS, "epochs": None, "init": "isometry", "whitening": 0.0}
    )
    fresh = modulation.transform(sample_patches(features, 2 * features.dim * len(bank), settings.seed))
    rows = np.concatenate([bank.vectors, fresh])
    trained = train_modulation(rows, short, seed=settings.seed, device=choose_device(settings.device))
    assert isinstance(trained.modulation, Modulation)  # noqa: S101 (mypy: an f was trained)
    further = trained.modulation.weight.detach()
    # Only the linear part: shifting and scaling all vectors alike changes no comparison between them.
    moved = Modulation(further @ modulation.weight.detach(), modulation.mean, modulation.scale)
    vectors = nn.functional.linear(torch.from_numpy(bank.vectors), further).numpy()
    return moved, MemoryBank(vectors)


def merge_bank(
    bank: MemoryBank, features: PatchFeatures, modulation: AnyModulation, settings: Settings
) -> MemoryBank:
    """Greedy k-center over the bank and the new patches together.

    The bank grows by ``coreset.ratio`` of the new patches, up to ``coreset.max_bank``. With R the radius
    within which the old bank covers the old patches and OPT the smallest that as many points as the new
    bank has can reach over bank and new patches, every new patch lies within 2 OPT of the new bank, and
    every old one within R + 2 OPT; beyond the memory budget 4 OPT stands for 2 OPT
    (`coreset.merge_reduce.select_coreset`). Every update adds such a term for the patches before it.

    Args:
        bank: (M, dim) vectors in the space of ``modulation``.
        features: of the new images that fit.
        modulation: f; the identity for plain PatchCore.
        settings: section ``coreset`` and ``seed``.
    """
    cap = settings.coreset.max_bank
    size = len(bank) + coreset_size(features.patches, settings.coreset.ratio)
    size = size if cap is None else min(size, cap)
    blocks = chain([bank.vectors], modulated(features, modulation))
    return select_bank(blocks, len(bank) + features.patches, size, settings)


def can_recalibrate(calibration: Calibration | None, groups: Sequence[str]) -> bool:
    """Whether a threshold from held-out images of these groups promises no less than there is."""
    return len(groups) > 0 and (calibration is None or len(set(groups)) >= calibration.threshold.n)


def recalibrate(
    calibration: Calibration | None,
    holdout: PatchFeatures,
    groups: Sequence[str],
    modulation: AnyModulation,
    bank: MemoryBank,
    settings: Settings,
) -> Calibration | None:
    """Calibrate the updated detector, or carry over what there is and say so.

    Args:
        calibration: of the detector before.
        holdout: held-out images, old and new, whose features are at hand.
        groups: the group of each.
        modulation: f as it ships.
        bank: the bank as it ships.
        settings: sections ``scoring`` and ``calibrate``.
    """
    if can_recalibrate(calibration, groups):
        statistics = image_statistics_of(calibration.held_out if calibration is not None else None)
        return calibrate(holdout, groups, modulation, bank, settings, statistics)
    return None if calibration is None else replace(calibration, carried_over=True, held_out=None)


def extend(known: TrainingSet, added: TrainingSet, given: Sequence[tuple[str, str]] = ()) -> TrainingSet:
    """The training set after an update.

    Args:
        known: of the detector before.
        added: the images that it has learnt.
        given: (digest, group) of all images of the update; known groups that these join are one from now on.
    """
    fit, holdout = [*known.fit_pairs, *added.fit_pairs], [*known.holdout_pairs, *added.holdout_pairs]
    group_of = group_of_content([*fit, *holdout, *given])
    fit, holdout = (sorted((digest, group_of[digest]) for digest, _ in part) for part in (fit, holdout))
    return TrainingSet.from_pairs(fit, holdout, known.updates + 1)
