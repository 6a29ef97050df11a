"""Calibration of a fit: statistics and thresholds from nominal images that it has not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from reconpatch.calibration.calibration import Calibration, Method, calibrate_scores
from reconpatch.calibration.held_out_images import StatisticValues, held_out_table, image_statistics_of
from reconpatch.calibration.threshold import check_rate
from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.data.groups import join_groups
from reconpatch.data.images import probe_image
from reconpatch.data.nominal_split import NominalSplit, split_nominal
from reconpatch.data.training_images import group_keys
from reconpatch.device import limit_threads
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.feature_scorer import FeatureScorer, sample_pixels
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.progress import track
from reconpatch.settings import Settings
from reconpatch.training.fit_modulation import fit_modulation


def calibrate_fit(
    features: PatchFeatures,
    groups: Sequence[str],
    split: NominalSplit,
    modulation: AnyModulation,
    bank: MemoryBank,
    settings: Settings,
    statistics: Mapping[str, StatisticValues] | None = None,
) -> Calibration | None:
    """Calibrate a fitted detector as ``calibrate.calibration`` says; arguments as of the steps before."""
    if settings.calibrate.calibration == "crossfit":
        return crossfit(features, groups, settings)
    held = [groups[i] for i in split.holdout]
    return calibrate(features.subset(split.holdout), held, modulation, bank, settings, statistics)


def check_false_reject_rate(split: NominalSplit, settings: Settings) -> None:
    """Refuse before the work is done a rate that the groups to calibrate on cannot promise.

    Raises:
        SettingsError: an explicit rate needs more groups; the message says how many.
    """
    rate = settings.calibrate.false_reject_rate
    if rate is None or (settings.calibrate.holdout == 0 and settings.calibrate.calibration == "holdout"):
        return
    check_rate(split.calibrating_groups, rate)


def calibrate(
    features: PatchFeatures,
    groups: Sequence[str],
    modulation: AnyModulation,
    bank: MemoryBank,
    settings: Settings,
    statistics: Mapping[str, StatisticValues] | None = None,
) -> Calibration | None:
    """Statistics and thresholds from the held-out images and their groups; None when there is none.

    Args:
        features: of the held-out images.
        groups: the group of each.
        modulation: f as it ships.
        bank: the bank as it ships.
        settings: sections ``scoring`` and ``calibrate``.
        statistics: brightness, contrast and sharpness by digest; images not among them are measured.
    """
    if not len(features):
        return None
    *nominal, embeddings = score_nominal(features, modulation, bank, settings)
    keys = group_keys(features.paths, groups, features.image_digests)
    joined = join_groups(keys, features.image_digests)
    table = held_out_table(
        features.image_digests,
        joined,
        nominal[0],
        embeddings,
        _measured(features, statistics or {}),
    )
    return replace(_calibration(nominal, joined, settings, "holdout"), held_out=table)


def _measured(features: PatchFeatures, known: Mapping[str, StatisticValues]) -> dict[str, StatisticValues]:
    """What is known, and what can be measured on files that are still what they were."""
    statistics = dict(known)
    for path, digest in zip(features.paths, features.image_digests, strict=True):
        if digest not in statistics and path.is_file():
            probe = probe_image(path)
            if probe.sha256 == digest:
                statistics |= image_statistics_of(pd.DataFrame([asdict(probe)]))
    return statistics


def crossfit(features: PatchFeatures, groups: Sequence[str], settings: Settings) -> Calibration | None:
    """The same without holding out: each part of the groups is scored by a detector fitted on the others.

    The shipped detector knows all images, so its own scores of new ones are a little lower than these, and
    it rejects rather less than is promised (docs/benchmarks.md). Arrivals that ingest let in by their score
    fit every detector and calibrate none, unless there is nothing else. None with fewer than two groups.

    Args:
        features: of all nominal images, which the shipped detector is fitted on too.
        groups: the group of each.
        settings: as for the fit; ``calibrate.folds``.
    """
    cross = settings.model_copy(
        update={"calibrate": settings.calibrate.model_copy(update={"calibration": "crossfit"})}
    )
    split = split_nominal(features.paths, groups, features.image_digests, cross)
    joined = np.asarray(split.groups, dtype=str)
    names, member = np.unique(joined, return_inverse=True)
    parts = min(settings.calibrate.folds, len(names))
    if parts < 2:
        return None
    part = np.random.default_rng(settings.seed).permutation(len(names))[member] % parts
    found, order = [], []
    for number in range(parts):
        chosen = split.calibrates[part[split.calibrates] == number]
        if not len(chosen):
            continue
        order += [joined[i] for i in chosen]
        rest = features.subset(np.flatnonzero(part != number))
        modulation = fit_modulation(rest, settings).modulation
        bank = fit_bank(rest, modulation, settings)
        found.append(score_nominal(features.subset(chosen), modulation, bank, settings))
    *nominal, _ = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return _calibration(nominal, order, settings, "crossfit")


def score_nominal(
    features: PatchFeatures, modulation: AnyModulation, bank: MemoryBank, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image scores (n,), a sample of map pixels (m,), each map's largest pixel (n,), embeddings (n, E)."""
    limit_threads(settings.threads)
    scores, pixels, peaks, embeddings = [], [], [], []
    scorer = FeatureScorer(modulation, bank, settings, features.grid, features.region)
    for batch in track(scorer.score_blocks(features.blocks()), "calibrate", total=len(features)):
        scores.append(batch.scores)
        pixels.append(sample_pixels(batch.maps, features.region))
        peaks.append(batch.maps.max(axis=(1, 2)))
        embeddings.append(batch.embeddings)
    return (
        np.concatenate(scores),
        np.concatenate(pixels),
        np.concatenate(peaks),
        np.concatenate(embeddings),
    )


def _calibration(
    nominal: Sequence[np.ndarray],
    groups: Sequence[str],
    settings: Settings,
    method: Method,
) -> Calibration:
    return calibrate_scores(
        *nominal,
        groups=groups,
        false_reject_rate=settings.calibrate.false_reject_rate,
        review_rate=settings.calibrate.review_rate,
        method=method,
    )
