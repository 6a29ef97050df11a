"""What a unified fit yields."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reconpatch.calibration.calibration import Calibration
from reconpatch.data.training_images import TrainingSet, union
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.model.region import Region
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.storage.detector_schema import BackboneReference


@dataclass(frozen=True)
class CategoryParts:
    """What belongs to one category.

    Attributes:
        bank: that its images are compared with: its own, or the one that all categories share.
        calibration: from its held-out images alone; None when none were held out.
        training_set: its nominal images.
        region: what counts of its images; None: all of them.
    """

    bank: MemoryBank
    calibration: Calibration | None
    training_set: TrainingSet
    region: Region | None = None

    @classmethod
    def of(cls, parts: FittedParts) -> "CategoryParts":
        """What a category's own detector has beside f and the backbone."""
        return cls(parts.bank, parts.calibration, parts.training_set, parts.region)


@dataclass(frozen=True)
class UnifiedParts:
    """Everything that a unified fit yields.

    Attributes:
        settings: the parameters it was fitted with.
        backbone: reference to the frozen network.
        modulation: f, trained on all categories; the identity for plain PatchCore.
        bank: the shared one, or those of all categories together.
        calibration: from the held-out images of all categories, for images whose category is not known.
        categories: by name.
    """

    settings: Settings
    backbone: BackboneReference
    modulation: AnyModulation
    bank: MemoryBank
    calibration: Calibration | None
    categories: Mapping[str, CategoryParts]

    def of_category(self, name: str) -> FittedParts:
        """The detector of one category."""
        one = self.categories[name]
        return FittedParts(
            self.settings,
            self.backbone,
            self.modulation,
            one.bank,
            one.calibration,
            one.training_set,
            one.region,
        )

    @property
    def pooled(self) -> FittedParts:
        """The detector of an image whose category is not known: all of it counts."""
        known = union({name: one.training_set for name, one in self.categories.items()})
        return FittedParts(self.settings, self.backbone, self.modulation, self.bank, self.calibration, known)


def together(banks: Sequence[MemoryBank]) -> MemoryBank:
    """The vectors of all banks as one."""
    return MemoryBank(np.concatenate([bank.vectors for bank in banks]))
