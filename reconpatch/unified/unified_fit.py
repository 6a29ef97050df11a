"""The steps of a unified fit: f, the banks, and a calibration for each category and for all together."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np

from reconpatch.calibration.calibrate import check_false_reject_rate, score_nominal
from reconpatch.calibration.calibration import Calibration, calibrate_scores
from reconpatch.calibration.held_out_images import StatisticValues
from reconpatch.calibration.self_check import SelfCheck
from reconpatch.coreset.bank_selection import fit_bank, modulated, select_bank
from reconpatch.coreset.k_center import coreset_size
from reconpatch.data.groups import join_groups
from reconpatch.data.nominal_split import NominalSplit
from reconpatch.errors import DataError, SettingsError
from reconpatch.fit import NominalImages, fit_detector
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.settings import Settings
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.training.training_loop import TrainingRecord
from reconpatch.unified.unified_parts import CategoryParts, UnifiedParts, together
from reconpatch.unified.unified_training import train_on_all


@dataclass(frozen=True)
class UnifiedFit:
    """What a unified fit yields.

    Attributes:
        parts: the model's.
        history: losses of f's training; empty without f.
        self_checks: by category, what its images say of each other, where anybody could tell.
    """

    parts: UnifiedParts
    history: tuple[TrainingRecord, ...]
    self_checks: Mapping[str, SelfCheck]


def fit_categories(
    categories: Mapping[str, NominalImages],
    backbone: BackboneReference,
    settings: Settings,
    statistics: Mapping[str, StatisticValues] | None = None,
) -> UnifiedFit:
    """Fit one model on the nominal images of several categories.

    Args:
        categories: the images by category; the features all of one extractor.
        backbone: reference to it.
        settings: all parameters of the library.
        statistics: as for `fit.calibrate`.

    Raises:
        DataError: there is but one category, one has no image, or two share an image.
        SettingsError: a category's groups cannot promise the false-reject rate asked for, or
            ``calibrate.calibration`` is ``crossfit``.
    """
    _check(categories, settings)
    categories = dict(sorted(categories.items()))
    splits = {name: _split(name, images, settings) for name, images in categories.items()}
    fit = {name: images.subset(splits[name].fit) for name, images in categories.items()}
    trained = train_on_all(fit, settings)
    modulation = trained.modulation
    banks = _fit_banks(fit, modulation, settings)
    parts = {
        name: fit_detector(
            images,
            backbone,
            settings,
            split=splits[name],
            modulation=modulation,
            bank=banks[name],
            statistics=statistics,
        )
        for name, images in categories.items()
    }
    shared = settings.unified.bank == "shared"
    everything = next(iter(banks.values())) if shared else together(list(banks.values()))
    held = {name: images.subset(splits[name].holdout) for name, images in categories.items()}
    pooled = _calibrate_pooled(held, modulation, everything, settings)
    by_category = {name: CategoryParts.of(one.parts) for name, one in parts.items()}
    unified = UnifiedParts(settings, backbone, modulation, everything, pooled, by_category)
    checks = {name: one.self_check for name, one in parts.items() if one.self_check is not None}
    return UnifiedFit(unified, trained.history, checks)


def _check(categories: Mapping[str, NominalImages], settings: Settings) -> None:
    if len(categories) < 2:
        raise DataError(
            f"a unified model needs two categories or more, not {', '.join(categories) or 'none'}; one alone "
            "is what `reconpatch fit` without --unified is for"
        )
    if settings.calibrate.calibration == "crossfit":
        raise SettingsError(
            "calibrate.calibration: crossfit would train f anew for every part of every category; a unified "
            "model takes holdout"
        )
    owner: dict[str, str] = {}
    for name, images in categories.items():
        for path, digest in zip(images.features.paths, images.features.image_digests, strict=True):
            if owner.setdefault(digest, name) != name:
                raise DataError(
                    f"{path}: is also an image of category {owner[digest]}; what trains the one must not set "
                    "the threshold of the other, so take it out of one of them"
                )


def _split(name: str, images: NominalImages, settings: Settings) -> NominalSplit:
    try:
        split = images.split(settings)
        check_false_reject_rate(split, settings)
    except DataError as error:
        raise DataError(f"category {name}: {error}") from None
    except SettingsError as error:
        raise SettingsError(f"category {name}: {error}") from None
    return split


def _fit_banks(
    fit: Mapping[str, NominalImages], modulation: AnyModulation, settings: Settings
) -> dict[str, MemoryBank]:
    """By category: its own bank, or one and the same for all."""
    if settings.unified.bank == "per_category":
        return {name: fit_bank(images.features, modulation, settings) for name, images in fit.items()}
    total = sum(images.features.patches for images in fit.values())
    size = coreset_size(total, settings.coreset.ratio, settings.coreset.max_bank)
    blocks = (modulated(images.features, modulation) for images in fit.values())
    bank = select_bank(chain.from_iterable(blocks), total, size, settings)
    return dict.fromkeys(fit, bank)


def _calibrate_pooled(
    held: Mapping[str, NominalImages], modulation: AnyModulation, bank: MemoryBank, settings: Settings
) -> Calibration | None:
    """Thresholds of an image whose category is not known, scored as such an image is: whole, by all banks."""
    some = {name: images for name, images in held.items() if images.groups}
    if not some:
        return None
    scored = [score_nominal(images.whole.features, modulation, bank, settings) for images in some.values()]
    scores, pixels, peaks, _ = (np.concatenate(arrays) for arrays in zip(*scored, strict=True))
    return calibrate_scores(
        scores,
        pixels,
        peaks,
        groups=[
            f"{name}/{group}"
            for name, images in some.items()
            for group in join_groups(images.groups, images.features.image_digests)
        ],
        false_reject_rate=settings.calibrate.false_reject_rate,
        review_rate=settings.calibrate.review_rate,
    )
