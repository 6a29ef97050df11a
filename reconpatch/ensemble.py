"""Several detectors of the same images as one: the mean of their modified z-scores (paper, section 4)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from reconpatch.calibration.calibration import Calibration, calibrate_scores
from reconpatch.calibration.held_out_images import held_out_table, image_statistics_of
from reconpatch.data.training_images import group_of_content
from reconpatch.detector import ReConPatch
from reconpatch.errors import ModelError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import ImageLike, PatchFeatures
from reconpatch.fitted_detector import FittedDetector
from reconpatch.model.anomaly_model import EnsembleModel
from reconpatch.model.feature_scorer import FeatureScorer, sample_pixels
from reconpatch.model.score_fusion import fuse
from reconpatch.prediction import Prediction, as_list, with_verdict
from reconpatch.progress import track
from reconpatch.settings import Settings
from reconpatch.storage.detector_folder import FittedParts
from reconpatch.storage.detector_source import local_folder
from reconpatch.storage.ensemble_folder import read_ensemble, write_ensemble


class Ensemble(FittedDetector):
    """Members fitted and calibrated alone, on the same images with the same ones held out.

    Scores and maps are in robust standard deviations above a typical nominal value, and may be below 0.
    An ensemble cannot be updated: the members' statistics would no longer be of the same images.
    """

    def __init__(self, members: Sequence[ReConPatch], calibration: Calibration) -> None:
        """Put members and the calibration of their mean together; `fuse_members` makes both.

        Raises:
            ModelError: there are fewer than two members, or they do not belong together.
        """
        check_members([member.parts for member in members])
        self.settings = members[0].settings
        self.members = tuple(members)
        self._calibration = calibration

    @property
    def member_parts(self) -> tuple[FittedParts, ...]:
        """As of `FittedDetector`."""
        return tuple(member.parts for member in self.members)

    @property
    def calibration(self) -> Calibration:
        """What the held-out nominal images say about the mean."""
        return self._calibration

    def stream(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[Prediction]:
        """Yield one prediction an image, in order, a batch of each member at a time."""
        listed = as_list(images)
        streams = [member.stream(listed) for member in self.members]
        calibrations = [_calibration(member.parts) for member in self.members]
        for several in zip(*streams, strict=True):
            scores = [np.array([one.score], dtype=np.float32) for one in several]
            maps = [one.anomaly_map for one in several]
            score = float(fuse(scores, [one.scores for one in calibrations])[0])
            fused = fuse(maps, [one.pixels for one in calibrations])
            yield with_verdict(several[0].path, score, fused, several[0].embedding, self.calibration)

    def module(self) -> EnsembleModel:
        """As of `FittedDetector`; it shares its parts with the members."""
        calibrations = [_calibration(member.parts) for member in self.members]
        return EnsembleModel([member.module() for member in self.members], calibrations, self.calibration)

    def save(self, folder: str | Path) -> None:
        """Write one folder that holds the members' folders; it is complete or absent."""
        write_ensemble(Path(folder), self.member_parts, self.calibration)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "auto",
        threads: int = 0,
        cache: str | Path | FeatureCache | None = None,
    ) -> "Ensemble":
        """Read what `save` wrote; arguments as of `reconpatch.load`.

        Raises:
            ModelError: something is missing, cut short or altered.
        """
        parts, calibration = read_ensemble(local_folder(source))
        members = [ReConPatch.of_parts(one, device=device, threads=threads, cache=cache) for one in parts]
        return cls(members, calibration)


def fuse_members(members: Sequence[ReConPatch], holdout: Sequence[PatchFeatures]) -> Ensemble:
    """Make one detector of fitted and calibrated members.

    Args:
        members: at least two.
        holdout: per member the features of the held-out images, in one and the same order.

    Raises:
        ModelError: the members do not belong together, or one is not calibrated.
    """
    check_members([member.parts for member in members])
    calibrations = [_calibration(member.parts) for member in members]
    streams = [
        FeatureScorer(
            member.parts.modulation,
            member.parts.bank,
            member.parts.settings,
            features.grid,
            member.parts.region,
        ).score_blocks(features.blocks())
        for member, features in zip(members, holdout, strict=True)
    ]
    scores, pixels, peaks, embeddings = [], [], [], []
    for several in track(zip(*streams, strict=True), "calibrate the ensemble", total=len(holdout[0])):
        maps = fuse([one.maps for one in several], [one.pixels for one in calibrations])
        scores.append(fuse([one.scores for one in several], [one.scores for one in calibrations]))
        pixels.append(sample_pixels(maps, members[0].region))
        peaks.append(maps.max(axis=(1, 2)))
        embeddings.append(several[0].embeddings)
    settings = members[0].settings.calibrate
    group_of = group_of_content(members[0].training_set.holdout_pairs)
    digests = holdout[0].image_digests
    groups = [group_of[digest] for digest in digests]
    fused = calibrate_scores(
        np.concatenate(scores),
        np.concatenate(pixels),
        np.concatenate(peaks),
        groups=groups,
        false_reject_rate=settings.false_reject_rate,
        review_rate=settings.review_rate,
    )
    statistics = image_statistics_of(calibrations[0].held_out)
    table = held_out_table(digests, groups, np.concatenate(scores), np.concatenate(embeddings), statistics)
    return Ensemble(members, replace(fused, held_out=table))


def fit_ensemble(
    backbones: Sequence[str],
    images: str | Path | Sequence[str | Path] | pd.DataFrame,
    detector: ReConPatch,
) -> Ensemble:
    """Fit one member a backbone and put them together.

    Args:
        backbones: timm model names, at least two.
        images: as for `ReConPatch.fit`.
        detector: an unfitted one, whose parameters all members share but for the backbone.
    """
    with detector.feature_cache() as cache:
        members = [
            ReConPatch(backbone, settings=detector.settings, cache=cache).fit(images)
            for backbone in backbones
        ]
        return fuse_members(members, [member.held_out_features(images) for member in members])


def fit_folder(images: Path, settings: Settings, cache: FeatureCache | Path | None = None) -> FittedDetector:
    """Fit a category as the parameters say: one detector, or with ``pipeline.fuse`` an ensemble.

    Args:
        images: the category's folder.
        settings: all parameters; ``pipeline.backbones`` count only where they are fused.
        cache: the feature cache or its folder.
    """
    detector = ReConPatch(settings=settings, cache=cache)
    if settings.pipeline.fuse:
        return fit_ensemble(settings.pipeline.backbones, images, detector)
    return detector.fit(images)


def check_members(parts: Sequence[FittedParts]) -> None:
    """Refuse members whose scores cannot be averaged.

    Raises:
        ModelError: fewer than two, one is not calibrated, or they were fitted on other images or look at
            images in another way.
    """
    if len(parts) < 2:
        raise ModelError(f"{len(parts)} member(s): an ensemble needs at least two; name more backbones")
    first = parts[0]
    for one in parts:
        _calibration(one)
        if (one.training_set.fit, one.training_set.holdout) != (
            first.training_set.fit,
            first.training_set.holdout,
        ):
            raise ModelError(
                f"members {first.backbone.name} and {one.backbone.name}: were fitted on other images, or "
                "others were held out; fit them with the same images, seed and calibrate.holdout"
            )
        if one.region != first.region:
            raise ModelError(
                f"members {first.backbone.name} and {one.backbone.name}: look at other regions of interest; "
                "fit them with the same roi.png"
            )
        views = [(each.settings.features.image_size, each.settings.features.resize) for each in (first, one)]
        if views[0] != views[1]:
            raise ModelError(
                f"members {first.backbone.name} and {one.backbone.name}: see images at {views[0]} and "
                f"{views[1]} (image_size, resize), so their maps do not match; fit them alike"
            )


def _calibration(parts: FittedParts) -> Calibration:
    if parts.calibration is None or not parts.training_set.holdout:
        raise ModelError(
            f"member {parts.backbone.name}: is not calibrated on held-out images, so its scores have no "
            "common unit; fit it with calibrate.holdout above 0 and calibrate.calibration: holdout"
        )
    return parts.calibration
