"""THE sequence of a fit: split, f, bank, calibration, self-check.

`ReConPatch.fit`, the pipeline's stages, the unified model and a new category of one all call `fit_detector`,
or its steps where the results of each are kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reconpatch.calibration.calibrate import calibrate_fit, check_false_reject_rate
from reconpatch.calibration.held_out_images import StatisticValues
from reconpatch.calibration.self_check import SelfCheck, check_nominal
from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.data.nominal_split import NominalSplit, split_nominal
from reconpatch.data.training_images import TrainingSet, group_keys
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.training.fit_modulation import fit_modulation


@dataclass(frozen=True)
class NominalImages:
    """Nominal images of one category.

    Attributes:
        features: of N images, those in the category's region of interest.
        groups: (N,) the group of each.
    """

    features: PatchFeatures
    groups: Sequence[str]

    def subset(self, positions: Sequence[int] | np.ndarray) -> "NominalImages":
        """The images at these positions."""
        return NominalImages(self.features.subset(positions), [self.groups[i] for i in positions])

    @property
    def whole(self) -> "NominalImages":
        """The same, wherever the patches lie."""
        return NominalImages(replace(self.features, region=None), self.groups)

    def split(self, settings: Settings) -> NominalSplit:
        """Which of them fit a detector and which calibrate it.

        Raises:
            DataError: there is no image.
        """
        features = self.features
        return split_nominal(features.paths, self.groups, features.image_digests, settings)


@dataclass(frozen=True)
class Fitted:
    """What a fit yields.

    Attributes:
        parts: the detector's.
        self_check: what the images say of each other; None where nobody could tell or asked.
    """

    parts: FittedParts
    self_check: SelfCheck | None


def fit_detector(
    images: NominalImages,
    backbone: BackboneReference,
    settings: Settings,
    *,
    split: NominalSplit | None = None,
    modulation: AnyModulation | None = None,
    bank: MemoryBank | None = None,
    statistics: Mapping[str, StatisticValues] | None = None,
) -> Fitted:
    """Fit a detector; what is given of its parts is taken as it is, the rest is made in order.

    Args:
        images: the category's nominal images.
        backbone: reference to the network of the features.
        settings: all parameters of the library.
        split: which images fit and which calibrate.
        modulation: f.
        bank: the memory bank in f's space.
        statistics: as for `calibrate`.

    Raises:
        DataError: there is no image.
        SettingsError: the groups cannot promise ``calibrate.false_reject_rate``; says how many can.
    """
    features, groups = images.features, images.groups
    split = images.split(settings) if split is None else split
    check_false_reject_rate(split, settings)
    fit_features = features.subset(split.fit)
    if modulation is None:
        modulation = fit_modulation(fit_features, settings).modulation
    if bank is None:
        bank = fit_bank(fit_features, modulation, settings)
    calibration = calibrate_fit(features, groups, split, modulation, bank, settings, statistics)
    wanted = settings.calibrate.suspicious_z is not None
    parts = FittedParts(
        settings,
        backbone,
        modulation,
        bank,
        calibration,
        training_set(features, groups, split),
        features.region,
    )
    return Fitted(parts, check_nominal(features, groups, modulation, bank) if wanted else None)


def training_set(features: PatchFeatures, groups: Sequence[str], split: NominalSplit) -> TrainingSet:
    """What the detector keeps of its training images, under the groups that they were given."""
    keys = group_keys(features.paths, groups, features.image_digests)
    fit, holdout = (
        tuple(sorted((features.image_digests[i], keys[i]) for i in part))
        for part in (split.fit, split.holdout)
    )
    return TrainingSet.from_pairs(fit, holdout)
