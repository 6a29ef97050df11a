"""The detector of one category and one backbone: fit, predict, update, save and load."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.self_check import warn_of_suspects
from reconpatch.data.training_images import TrainingImages, training_images
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import ModelError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.feature_stream import feature_batches
from reconpatch.features.patch_features import (
    ImageLike,
    PatchFeatures,
    extract_features,
    image_digest,
    index_features,
)
from reconpatch.fit import NominalImages, fit_detector
from reconpatch.fitted_detector import FittedDetector
from reconpatch.model.anomaly_model import AnomalyModel
from reconpatch.model.feature_scorer import FeatureScorer
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.region import read_region
from reconpatch.prediction import Prediction, as_list, with_verdict
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.detector_folder import FittedParts, read_model, write_model
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.storage.detector_source import local_folder
from reconpatch.update import Mode, check_mode, update_parts


class ReConPatch(FittedDetector):
    """Anomaly detector fitted on good images only (Hyun et al., WACV 2024).

    Example:
        Eight small images of a texture, and one of them with a scratch:

        >>> import numpy as np
        >>> from PIL import Image
        >>> good = np.random.default_rng(0).integers(110, 120, (8, 64, 64, 3), dtype=np.uint8)
        >>> files = [f"{number}.png" for number in range(len(good))]
        >>> for file, pixels in zip(files, good):
        ...     Image.fromarray(pixels).save(file)
        >>> small = {"features.image_size": 64, "modulation.steps": 5, "modulation.batch_size": 64}
        >>> detector = ReConPatch(params=small).fit(files)
        >>> scratched = good[0].copy()
        >>> scratched[20:30] = 255
        >>> nominal, defective = detector.predict([files[0], scratched])
        >>> defective.score > nominal.score
        True
    """

    def __init__(
        self,
        backbone: str | None = None,
        *,
        settings: Settings | None = None,
        params: Mapping[str, Any] | None = None,
        cache: str | Path | FeatureCache | None = None,
    ) -> None:
        """Make an unfitted detector.

        Args:
            backbone: timm model name; short for the parameter ``features.backbone``.
            settings: all parameters; the defaults when None.
            params: single parameters by full name, such as ``{"coreset.ratio": 0.1}``.
            cache: the feature cache or its folder, shared and safe to delete; a folder is kept below
                ``pipeline.cache_max_gib``. None keeps no features.

        Raises:
            SettingsError: a parameter is unknown or out of range.
        """
        overrides = dict(params or {})
        if backbone is not None:
            overrides["features.backbone"] = backbone
        self.settings = load_settings(None, overrides, base=settings)
        if isinstance(cache, (str, Path)):
            cache = FeatureCache(Path(cache), self.settings.pipeline.cache_max_bytes)
        self._cache = cache
        self._parts: FittedParts | None = None
        self._extractor: PatchExtractor | None = None

    @property
    def parts(self) -> FittedParts:
        """What the fit yielded.

        Raises:
            ModelError: the detector has not been fitted.
        """
        if self._parts is None:
            raise ModelError("this detector is not fitted; call fit(...) or ReConPatch.load(...)")
        return self._parts

    @property
    def calibration(self) -> Calibration | None:
        """What held-out nominal images said; None when none were held out."""
        return self.parts.calibration

    @property
    def member_parts(self) -> tuple[FittedParts, ...]:
        """As of `FittedDetector`."""
        return (self.parts,)

    @property
    def extractor(self) -> PatchExtractor:
        """The frozen network, loaded when first needed.

        Raises:
            ModelError: the weights found are not those that the detector was fitted with.
        """
        if self._extractor is None:
            self._extractor = PatchExtractor(self.settings.features, choose_device(self.settings.device))
            fitted = self._parts.backbone if self._parts is not None else None
            found = self._extractor.backbone.weights_sha256
            if fitted is not None and found != fitted.weights_sha256:
                self._extractor = None
                raise ModelError(
                    f"backbone {fitted.name}: the weights found here (sha256 {found[:12]}) are not those the "
                    f"detector was fitted with ({fitted.weights_sha256[:12]}, {fitted.weights_source}); "
                    "give these through features.weights or fit the detector again"
                )
        return self._extractor

    @property
    def cache(self) -> FeatureCache | None:
        """The feature cache; None keeps no features."""
        return self._cache

    def share_network(self, other: "ReConPatch") -> None:
        """Use the network of a detector with the same backbone, which is loaded once for both."""
        self._extractor = other.extractor

    def fit(
        self,
        images: str | Path | Sequence[str | Path] | pd.DataFrame,
        *,
        region: str | Path | None = None,
    ) -> "ReConPatch":
        """Fit on nominal images.

        Args:
            images: a category folder in a known layout, a list of image paths, or a manifest table.
            region: mask of what counts, drawn on one of the images; None: the category's roi.png if it has
                one, else all counts.

        Returns:
            The detector itself.

        Raises:
            DataError: an image cannot be read, something is no path, or there is none.
            ModelError: the backbone or its weights cannot be had.
        """
        limit_threads(self.settings.threads)
        training = training_images(images, self.settings.data)
        if region is not None:
            training = replace(training, region=Path(region))
        with self.feature_cache() as cache:
            return self._fit(training, cache)

    @contextmanager
    def feature_cache(self) -> Iterator[FeatureCache]:
        """The feature cache, or one that lasts as long as the block where none was given."""
        if self._cache is not None:
            yield self._cache
            return
        with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
            yield FeatureCache(Path(scratch))

    def held_out_features(self, images: str | Path | Sequence[str | Path] | pd.DataFrame) -> PatchFeatures:
        """Features of those of the fit's images that were held out, in the order of ``images``."""
        training, held = training_images(images, self.settings.data), set(self.training_set.holdout)
        paths = [path for path in training.paths if image_digest(path) in held]
        with self.feature_cache() as cache:
            return extract_features(paths, self.extractor, cache, region=self.region)

    def _fit(self, training: TrainingImages, cache: FeatureCache) -> "ReConPatch":
        images = nominal_images(training, self.extractor, self.settings, cache)
        fitted = fit_detector(images, backbone_reference(self.extractor, self.settings), self.settings)
        warn_of_suspects(fitted.self_check, images.features.paths, self.settings)
        self._parts = fitted.parts
        return self

    def update(
        self,
        images: str | Path | Sequence[str | Path] | pd.DataFrame,
        *,
        mode: Mode = "frozen",
        earlier: str | Path | Sequence[str | Path] | pd.DataFrame | None = None,
    ) -> "ReConPatch":
        """Add nominal images to the fitted detector; its old ones are not needed.

        Images that it knows already are not learnt again, but say which new ones belong to their groups. Some
        of the new ones are held out as in a fit. The threshold is calibrated anew on these and on the old
        held-out images, which are found by content in the feature cache, among ``images`` or ``earlier``.
        Where so many are missing that fewer images would stand behind the threshold than before, the old one
        stays and `Calibration.carried_over` says so.

        Args:
            images: as for `fit`; a list may hold category folders too.
            mode: ``frozen`` keeps f; ``fine-tune`` trains it further for 100 steps.
            earlier: images to look for the old held-out ones among, such as those of the fit.

        Returns:
            The detector itself, changed only when all went well.

        Raises:
            DataError: an image cannot be read, or none is new.
            ModelError: the detector is not fitted, or cannot be calibrated after a fine-tune.
            SettingsError: there is no such mode, or no f to fine-tune.
        """
        parts = self.parts
        check_mode(mode, parts.settings)
        limit_threads(self.settings.threads)
        training = _found_images(images, self.settings)
        files = {} if earlier is None else _by_content(_found_images(earlier, self.settings).paths)
        with self.feature_cache() as cache:
            given = index_features(training.paths, self.extractor, cache, region=parts.region)
            self._parts = update_parts(parts, given, training.groups, mode, files, self.settings)
        return self

    def stream(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[Prediction]:
        """Yield one prediction an image, in order, a batch at a time."""
        scorer, extractor = self.scorer(), self.extractor
        listed = as_list(images)
        limit_threads(self.settings.threads)
        for batch_images, features in feature_batches(listed, extractor, self._cache, self.region):
            scored = scorer.score(features)
            for image, score, anomaly_map, embedding in zip(
                batch_images, scored.scores, scored.maps, scored.embeddings, strict=True
            ):
                path = str(image) if isinstance(image, (str, Path)) else None
                yield with_verdict(path, float(score), anomaly_map, embedding, self.calibration)

    def scorer(self) -> FeatureScorer:
        """The half of the model behind the patch features.

        Raises:
            ModelError: the detector is not fitted.
        """
        parts = self.parts
        return FeatureScorer(parts.modulation, parts.bank, parts.settings, self.extractor.grid, parts.region)

    def module(self) -> AnomalyModel:
        """As of `FittedDetector`; it shares its parts with the detector."""
        return AnomalyModel(self.extractor.network, self.scorer(), self.calibration, self.region)

    def save(self, folder: str | Path) -> None:
        """Write the detector folder; it is complete or absent."""
        write_model(Path(folder), self.parts)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str | Path | FeatureCache | None = None,
    ) -> "ReConPatch":
        """Read a detector of one category and one backbone; `reconpatch.load` reads every kind.

        Args:
            source: a detector folder, or an MLflow URI such as ``models:/reconpatch-demo-brick@champion``.
            device: ``auto``, ``cpu`` or ``cuda[:n]``; it belongs to this machine, not to the detector.
            threads: CPU threads; 0 takes every core.
            cache: the feature cache or its folder.

        Raises:
            ModelError: something is missing, cut short, altered, or of another schema or backbone.
        """
        parts = read_model(local_folder(source))
        return cls.of_parts(parts, device=device, threads=threads, cache=cache)

    @classmethod
    def of_parts(
        cls,
        parts: FittedParts,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str | Path | FeatureCache | None = None,
    ) -> "ReConPatch":
        """A detector of fitted parts; the other arguments are those of `load`."""
        detector = cls(settings=parts.settings, params={"device": device, "threads": threads}, cache=cache)
        detector._parts = parts
        parts.bank.to(choose_device(device))
        return detector


def nominal_images(
    training: TrainingImages, extractor: PatchExtractor, settings: Settings, cache: FeatureCache
) -> NominalImages:
    """Patch features of a category's nominal images, those in its region of interest, with their groups."""
    region = None
    if training.region is not None:
        region = read_region(training.region, training.paths, settings, extractor.grid)
    features = extract_features(training.paths, extractor, cache, region=region)
    return NominalImages(features, training.groups)


def backbone_reference(extractor: PatchExtractor, settings: Settings) -> BackboneReference:
    """Name, digest and source of the weights behind an extractor."""
    backbone = extractor.backbone
    return BackboneReference(settings.features.backbone, backbone.weights_sha256, backbone.weights_source)


def _found_images(
    images: str | Path | Sequence[str | Path] | pd.DataFrame, settings: Settings
) -> TrainingImages:
    # New images need not be laid out as those of the fit were.
    return training_images(images, settings.data.model_copy(update={"layout": "auto"}))


def _by_content(paths: Sequence[Path]) -> dict[str, Path]:
    return {image_digest(path): path for path in paths}
