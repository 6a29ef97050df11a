"""One model for all categories, fitted, saved, loaded, asked and evaluated like a single detector.

`ReConPatch.load` gives it back. What is asked without a category gets all banks and the pooled threshold.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd

from reconpatch.calibration.self_check import check_nominal, warn_of_suspects
from reconpatch.data.layouts import find_categories
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.training_images import training_images
from reconpatch.detector import ReConPatch, backbone_reference
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import DataError, ModelError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import ImageLike, PatchFeatures, extract_features
from reconpatch.fit import calibrate_fit, check_false_reject_rate, fit_bank, training_set
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.region import read_region
from reconpatch.prediction import Prediction
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.training.training_loop import TrainingRecord
from reconpatch.unified.unified_fit import fit_categories
from reconpatch.unified.unified_folder import read_unified, write_unified
from reconpatch.unified.unified_parts import UnifiedParts
from reconpatch.unified.unified_training import CategoryImages

_Images = str | Path | Sequence[str | Path] | pd.DataFrame


class Unified(ReConPatch):
    """One f for all categories, with a bank and thresholds for each (`unified.bank`).

    Used as it stands it is the detector of images whose category is not known: it compares them with the
    banks of all categories and judges by a threshold from the held-out images of all. That threshold promises
    its false-reject rate for the mixture of the known categories, not for each, and nothing for a new one.

    Attributes:
        history: losses of f's training, after a fit; empty for a loaded model.
    """

    def __init__(
        self,
        parts: UnifiedParts,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str | Path | FeatureCache | None = None,
        history: Sequence[TrainingRecord] = (),
    ) -> None:
        """Make a detector of what `fit_categories` yields; the other arguments are those of `load`."""
        super().__init__(settings=parts.settings, params={"device": device, "threads": threads}, cache=cache)
        self._unified = parts
        self._parts = parts.pooled
        parts.bank.to(choose_device(device))
        self.history = tuple(history)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that it was fitted on, in order."""
        return tuple(self._unified.categories)

    def of_category(self, name: str) -> ReConPatch:
        """The detector of one category; saved, it is a folder of its own.

        Raises:
            ModelError: it was not fitted on this category.
        """
        if name not in self._unified.categories:
            known = ", ".join(self.categories)
            raise ModelError(
                f"category {name!r}: this model was not fitted on it; it knows {known}. Without a category "
                "the pooled threshold counts"
            )
        return self._detector(self._unified.of_category(name))

    def predict(
        self, images: ImageLike | Iterable[ImageLike], category: str | None = None
    ) -> list[Prediction]:
        """Score images.

        Args:
            images: as for `ReConPatch.predict`.
            category: of all of these images; None: not known, the pooled threshold counts.

        Raises:
            DataError: an image cannot be read; the message names it.
            ModelError: it was not fitted on this category.
        """
        return list(self.stream(images, category))

    def stream(
        self, images: ImageLike | Iterable[ImageLike], category: str | None = None
    ) -> Iterator[Prediction]:
        """Yield one prediction an image, in order, a batch at a time; arguments as of `predict`."""
        if category is None:
            return super().stream(images)
        return self.of_category(category).stream(images)

    def fit_category(self, images: _Images) -> ReConPatch:
        """The detector of a category that f was not trained on: a bank of its own good images, f as it is.

        Args:
            images: as for `ReConPatch.fit`.

        Raises:
            DataError: an image cannot be read, there is none, or one has trained f.
        """
        settings, f = self.settings, self._unified.modulation
        limit_threads(settings.threads)
        with self.feature_cache() as cache:
            one = load_category(images, self.extractor, settings, cache)
            features, groups = one.features, one.groups
            _check_new(features, set(self.training_set.fit))
            split = split_nominal(features.paths, groups, features.image_digests, settings)
            check_false_reject_rate(split, settings)
            bank = fit_bank(features.subset(split.fit), f, settings)
            calibration = calibrate_fit(features, groups, split, f, bank, settings)
            known = training_set(features, groups, split)
        return self._detector(
            FittedParts(settings, self._unified.backbone, f, bank, calibration, known, features.region)
        )

    def fit(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: it is fitted on several categories."""
        raise ModelError("fit it on all categories again with `fit_unified`, or one more by `fit_category`")

    def update(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: f and the pooled threshold are of all categories."""
        raise ModelError(
            "a unified model cannot be updated; update the detector of a category (`of_category`), or fit it "
            "again with the new images"
        )

    def save(self, folder: str | Path) -> None:
        """Write the model's folder; it is complete or absent."""
        write_unified(Path(folder), self._unified)

    @classmethod
    def open(
        cls, folder: Path, *, device: str, threads: int, cache: str | Path | FeatureCache | None
    ) -> "Unified":
        """Read what `save` wrote.

        Raises:
            ModelError: something is missing, cut short or altered.
        """
        return cls(read_unified(folder), device=device, threads=threads, cache=cache)

    def _detector(self, parts: FittedParts) -> ReConPatch:
        settings = self.settings
        made = ReConPatch.of_parts(parts, device=settings.device, threads=settings.threads, cache=self._cache)
        made._extractor = self.extractor  # one network for all
        return made


def fit_unified(images: str | Path | Mapping[str, _Images], detector: ReConPatch) -> Unified:
    """Fit one model on several categories.

    Args:
        images: the folder of the categories, or by category's name what `ReConPatch.fit` takes.
        detector: an unfitted one, whose parameters count.

    Raises:
        DataError: an image cannot be read, there is but one category, or two share an image.
        SettingsError: the parameters do not go with it.
    """
    settings = detector.settings
    limit_threads(settings.threads)
    if isinstance(images, (str, Path)):
        images = {name: Path(images) / name for name in find_categories(Path(images))}
    extractor = detector.extractor
    with detector.feature_cache() as cache:
        categories = {name: load_category(some, extractor, settings, cache) for name, some in images.items()}
        parts, history = fit_categories(categories, backbone_reference(extractor, settings), settings)
        if settings.calibrate.suspicious_z is not None:
            _check_nominal(categories, parts, settings.calibrate.suspicious_z)
    made = Unified(
        parts, device=settings.device, threads=settings.threads, cache=detector._cache, history=history
    )
    made._extractor = extractor
    return made


def _check_nominal(categories: Mapping[str, CategoryImages], parts: UnifiedParts, limit: float) -> None:
    for name, images in categories.items():
        bank = parts.categories[name].bank
        checked = check_nominal(images.features, images.groups, parts.modulation, bank)
        if checked is not None:
            warn_of_suspects(checked.table(images.features.paths, limit), limit)


def _check_new(features: PatchFeatures, trained: set[str]) -> None:
    for path, digest in zip(features.paths, features.image_digests, strict=True):
        if digest in trained:
            raise DataError(
                f"{path}: has trained f, so it must not set a threshold; of a category that the model was "
                "fitted on take `of_category`, or fit the model again with the new images"
            )


def choose_category(detector: ReConPatch, category: str | None) -> ReConPatch:
    """The detector of the category that is named; without a name the one given.

    Raises:
        SettingsError: a category is named, and the detector is of one alone.
        ModelError: the unified model was not fitted on it.
    """
    if category is None:
        return detector
    if not isinstance(detector, Unified):
        raise SettingsError("--category: this model is of one category; leave it out")
    return detector.of_category(category)


def load_category(
    images: _Images, extractor: PatchExtractor, settings: Settings, cache: FeatureCache
) -> CategoryImages:
    """Patch features of a category's nominal images, those in its region of interest, with their groups."""
    training = training_images(images, settings.data)
    region = None
    if training.region is not None:
        region = read_region(training.region, training.paths, settings, extractor.grid)
    return CategoryImages(extract_features(training.paths, extractor, cache, region=region), training.groups)
