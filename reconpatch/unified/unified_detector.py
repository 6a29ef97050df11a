"""One model for all categories, fitted, saved, loaded, asked and evaluated like a single detector.

What is asked without a category is compared with all banks and judged by the pooled threshold. The model
cannot be updated, since f and the pooled threshold are of all categories: update the detector of a category
(`of_category`), or fit it again with the new images.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.self_check import warn_of_suspects
from reconpatch.data.layouts import find_categories
from reconpatch.data.training_images import training_images
from reconpatch.detector import ReConPatch, backbone_reference, nominal_images
from reconpatch.device import limit_threads
from reconpatch.errors import DataError, ModelError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import ImageLike, PatchFeatures
from reconpatch.fit import fit_detector
from reconpatch.fitted_detector import FittedDetector
from reconpatch.model.anomaly_model import AnomalyModel
from reconpatch.prediction import Prediction
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.storage.detector_source import local_folder
from reconpatch.training.training_loop import TrainingRecord
from reconpatch.unified.unified_fit import fit_categories
from reconpatch.unified.unified_folder import read_unified, write_unified
from reconpatch.unified.unified_parts import UnifiedParts

_Images = str | Path | Sequence[str | Path] | pd.DataFrame


class Unified(FittedDetector):
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
        self._unified = parts
        self._pooled = ReConPatch.of_parts(parts.pooled, device=device, threads=threads, cache=cache)
        self._cache = cache
        self.settings = self._pooled.settings
        self.history = tuple(history)

    @property
    def member_parts(self) -> tuple[FittedParts, ...]:
        """As of `FittedDetector`: all banks together with the pooled threshold."""
        return self._pooled.member_parts

    @property
    def calibration(self) -> Calibration | None:
        """What the held-out nominal images of all categories said."""
        return self._pooled.calibration

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
            return self._pooled.stream(images)
        return self.of_category(category).stream(images)

    def fit_category(self, images: _Images) -> ReConPatch:
        """The detector of a category that f was not trained on: a bank of its own good images, f as it is.

        Args:
            images: as for `ReConPatch.fit`.

        Raises:
            DataError: an image cannot be read, there is none, or one has trained f.
        """
        limit_threads(self.settings.threads)
        training = training_images(images, self.settings.data)
        with self._pooled.feature_cache() as cache:
            nominal = nominal_images(training, self._pooled.extractor, self.settings, cache)
            _check_new(nominal.features, set(self.training_set.fit))
            f, backbone = self._unified.modulation, self._unified.backbone
            fitted = fit_detector(nominal, backbone, self.settings, modulation=f)
        warn_of_suspects(fitted.self_check, nominal.features.paths, self.settings)
        return self._detector(fitted.parts)

    def module(self) -> AnomalyModel:
        """As of `FittedDetector`: all banks together with the pooled threshold."""
        return self._pooled.module()

    def save(self, folder: str | Path) -> None:
        """Write the model's folder; it is complete or absent."""
        write_unified(Path(folder), self._unified)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str | Path | FeatureCache | None = None,
    ) -> "Unified":
        """Read what `save` wrote; arguments as of `reconpatch.load`.

        Raises:
            ModelError: something is missing, cut short or altered.
        """
        return cls(read_unified(local_folder(source)), device=device, threads=threads, cache=cache)

    def _detector(self, parts: FittedParts) -> ReConPatch:
        settings = self.settings
        made = ReConPatch.of_parts(parts, device=settings.device, threads=settings.threads, cache=self._cache)
        made.share_network(self._pooled)
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
    with detector.feature_cache() as cache:
        categories = {
            name: nominal_images(training_images(some, settings.data), detector.extractor, settings, cache)
            for name, some in images.items()
        }
        reference = backbone_reference(detector.extractor, settings)
        fitted = fit_categories(categories, reference, settings)
    for name, checked in fitted.self_checks.items():
        warn_of_suspects(checked, categories[name].features.paths, settings)
    made = Unified(
        fitted.parts,
        device=settings.device,
        threads=settings.threads,
        cache=detector.cache,
        history=fitted.history,
    )
    made._pooled.share_network(detector)
    return made


def _check_new(features: PatchFeatures, trained: set[str]) -> None:
    for path, digest in zip(features.paths, features.image_digests, strict=True):
        if digest in trained:
            raise DataError(
                f"{path}: has trained f, so it must not set a threshold; of a category that the model was "
                "fitted on take `of_category`, or fit the model again with the new images"
            )


def choose_category(detector: FittedDetector, category: str | None) -> FittedDetector:
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
