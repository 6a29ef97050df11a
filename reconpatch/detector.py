"""The detector: the rooms of the library put together behind fit, predict, save and load."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.calibration.calibration import Calibration
from reconpatch.calibration.self_check import check_nominal, warn_of_suspects
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.training_images import TrainingImages, TrainingSet, training_images
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
from reconpatch.fit import calibrate_fit, check_false_reject_rate, fit_bank, fit_modulation, training_set
from reconpatch.model.inference import score_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.region import Region, read_region
from reconpatch.prediction import Prediction, as_list, judge
from reconpatch.settings import Settings, load_settings
from reconpatch.storage.detector_folder import (
    ENSEMBLE,
    UNIFIED,
    BackboneReference,
    FittedParts,
    read_config,
    read_model,
    write_model,
)
from reconpatch.update import Mode, check_mode, update_parts


class ReConPatch:
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
    def training_set(self) -> TrainingSet:
        """The nominal images that it was fitted and calibrated on."""
        return self.parts.training_set

    @property
    def region(self) -> Region | None:
        """What counts of an image, as it was when the detector was fitted; None: all of it."""
        return self.parts.region

    @property
    def threshold(self) -> float | None:
        """Image-score threshold from held-out nominal images; None when not calibrated."""
        return None if self.calibration is None else self.calibration.threshold.value

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
        settings, extractor = self.settings, self.extractor
        region = None
        if training.region is not None:
            region = read_region(training.region, training.paths, settings, extractor.grid)
        features = extract_features(training.paths, extractor, cache, region=region)
        groups = training.groups
        split = split_nominal(features.paths, groups, features.image_digests, settings)
        check_false_reject_rate(split, settings)
        fit_features = features.subset(split.fit)
        trained = fit_modulation(fit_features, settings)
        modulation = None if trained is None else trained.modulation
        bank = fit_bank(fit_features, modulation, settings)
        calibration = calibrate_fit(features, groups, split, modulation, bank, settings)
        limit = settings.calibrate.suspicious_z
        checked = None if limit is None else check_nominal(features, groups, modulation, bank)
        if checked is not None and limit is not None:
            warn_of_suspects(checked.table(features.paths, limit), limit)
        self._parts = FittedParts(
            settings,
            backbone_reference(extractor, settings),
            modulation,
            bank,
            calibration,
            training_set(features, groups, split),
            region=region,
        )
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

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[Prediction]:
        """Score images; `stream` is the same without keeping every map in memory.

        Args:
            images: one or many of: a path, a PIL image, an (H, W, 3) uint8 RGB array, a grey (H, W) or
                (H, W, 1) array of uint8 or uint16.

        Raises:
            DataError: an image cannot be read, or something is no image; the message names it.
            ModelError: the detector is not fitted.
        """
        return list(self.stream(images))

    def stream(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[Prediction]:
        """Yield one prediction an image, in order, a batch at a time."""
        parts, extractor = self.parts, self.extractor
        listed = as_list(images)
        limit_threads(self.settings.threads)
        for batch_images, features in feature_batches(listed, extractor, self._cache, self.region):
            scored = score_features(
                features, extractor.grid, parts.modulation, parts.bank, parts.settings, parts.region
            )
            for image, score, anomaly_map, embedding in zip(
                batch_images, scored.scores, scored.maps, scored.embeddings, strict=True
            ):
                path = str(image) if isinstance(image, (str, Path)) else None
                yield judge(path, float(score), anomaly_map, embedding, parts.calibration)

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
        """Read a fitted detector; of an ensemble an `Ensemble` is returned, of a unified model a `Unified`.

        Args:
            source: a detector folder, or an MLflow URI such as ``models:/reconpatch-demo-brick@champion``.
            device: ``auto``, ``cpu`` or ``cuda[:n]``; it belongs to this machine, not to the detector.
            threads: CPU threads; 0 takes every core.
            cache: the feature cache or its folder.

        Raises:
            ModelError: something is missing, cut short, altered, or of another schema or backbone.
        """
        if str(source).startswith("models:/"):
            from reconpatch.integrations.mlflow_uri import download_detector

            folder = download_detector(str(source))
        else:
            folder = Path(source)
        kind = read_config(folder).get("kind")
        if kind == ENSEMBLE:
            from reconpatch.model.ensemble import Ensemble  # it is made of detectors

            return Ensemble.open(folder, device=device, threads=threads, cache=cache)
        if kind == UNIFIED:
            from reconpatch.unified.unified_detector import Unified

            return Unified.open(folder, device=device, threads=threads, cache=cache)
        return cls.of_parts(read_model(folder), device=device, threads=threads, cache=cache)

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
