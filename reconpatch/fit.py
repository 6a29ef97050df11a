"""The steps of a fit, one function each; `ReConPatch.fit` and the pipeline's stages call the same."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd

from reconpatch.calibration.calibration import Calibration, Method, calibrate_scores
from reconpatch.calibration.held_out_images import StatisticValues, held_out_table, image_statistics_of
from reconpatch.calibration.threshold import check_rate
from reconpatch.coreset.k_center import coreset_size
from reconpatch.coreset.merge_reduce import Plan, merge_chunks, plan_selection, reduce_chunk, select_coreset
from reconpatch.data.groups import join_groups
from reconpatch.data.images import probe_image
from reconpatch.data.nominal_split import NominalSplit, split_nominal
from reconpatch.data.training_images import TrainingSet, group_keys
from reconpatch.device import choose_device, limit_threads
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.inference import sample_pixels, score_blocks
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Modulation
from reconpatch.progress import track
from reconpatch.settings import Settings
from reconpatch.training.training_loop import TrainedModulation, train_modulation

_MIB = 1 << 20
# Patches that f trains on are held in memory: 1.8 million of width 152, or 175 thousand of width 1536.
_TRAINING_BYTES = 512 * _MIB


def training_set(features: PatchFeatures, groups: Sequence[str], split: NominalSplit) -> TrainingSet:
    """What the detector keeps of its training images, under the groups that they were given."""
    keys = group_keys(features.paths, groups, features.image_digests)
    fit, holdout = (
        tuple(sorted((features.image_digests[i], keys[i]) for i in part))
        for part in (split.fit, split.holdout)
    )
    return TrainingSet.from_pairs(fit, holdout)


def fit_modulation(features: PatchFeatures, settings: Settings) -> TrainedModulation | None:
    """Train f on the patches of the fit images; None when ``modulation.enabled`` is false.

    Of more patches than 512 MiB hold, a uniform random sample of that size stands for all.
    """
    if not settings.modulation.enabled:
        return None
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    patches = sample_patches(features, _TRAINING_BYTES, settings.seed)
    return train_modulation(patches, settings.modulation, seed=settings.seed, device=device)


def sample_patches(features: PatchFeatures, max_bytes: int, seed: int) -> np.ndarray:
    """All patches in order, or as many as fit, drawn uniformly without replacement.

    Args:
        features: of N images.
        max_bytes: most bytes of the result.
        seed: of the draw.

    Returns:
        (n, D) float16, n at least 1.
    """
    fitting = max(1, max_bytes // (2 * features.dim))
    if features.patches <= fitting:
        return features.as_array()
    rows = np.random.default_rng(seed).choice(features.patches, fitting, replace=False, shuffle=False)
    return features.take(np.sort(rows))


def fit_bank(features: PatchFeatures, modulation: Modulation | None, settings: Settings) -> MemoryBank:
    """Select the coreset of the fit images' patches in f's space."""
    size = coreset_size(features.patches, settings.coreset.ratio, settings.coreset.max_bank)
    return select_bank(modulated(features, modulation), features.patches, size, settings)


def plan_bank(features: PatchFeatures, modulation: Modulation | None, settings: Settings) -> Plan:
    """How `fit_bank` selects: the chunks depend on the budget, and without one on this machine's memory."""
    size = coreset_size(features.patches, settings.coreset.ratio, settings.coreset.max_bank)
    width = features.dim if modulation is None else modulation.dim
    return plan_selection(features.patches, size, width, _memory_budget(settings))


def reduce_part(
    features: PatchFeatures, modulation: Modulation | None, plan: Plan, number: int, settings: Settings
) -> np.ndarray:
    """What `fit_bank` keeps of chunk ``number`` of its plan, (n, dim) float32; other images are not read."""
    limit_threads(settings.threads)
    rows, patches = plan.rows(number), features.patches_per_image
    first = rows.start // patches
    images = features.subset(range(first, -(-rows.stop // patches)))
    width = features.dim if modulation is None else modulation.dim
    vectors = np.empty((len(rows), width), np.float32)
    for i, block in enumerate(modulated(images, modulation), first):
        start, stop = max(rows.start, i * patches), min(rows.stop, (i + 1) * patches)
        vectors[start - rows.start : stop - rows.start] = block[start - i * patches : stop - i * patches]
    return reduce_chunk(vectors, plan, seed=settings.seed, device=choose_device(settings.device))


def bank_of_parts(reduced: Iterable[np.ndarray], plan: Plan, settings: Settings) -> MemoryBank:
    """The bank of `fit_bank` from what `reduce_part` kept of every chunk, in their order."""
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    return MemoryBank(merge_chunks(reduced, plan, seed=settings.seed, device=device)).to(device)


def modulated(features: PatchFeatures, modulation: Modulation | None) -> Iterator[np.ndarray]:
    """The (P, dim) float32 patches of one image after another in f's space, or as they are without f."""
    for block in features.blocks():
        yield modulation.apply(block) if modulation is not None else block.astype(np.float32)


def select_bank(blocks: Iterable[np.ndarray], total: int, size: int, settings: Settings) -> MemoryBank:
    """The bank of ``size`` of the ``total`` (n_i, dim) float32 vectors in ``blocks``, within the budget."""
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    vectors = select_coreset(
        blocks,
        total,
        size,
        seed=settings.seed,
        memory_budget=_memory_budget(settings),
        device=device,
    )
    return MemoryBank(vectors).to(device)


def _memory_budget(settings: Settings) -> int | None:
    budget = settings.coreset.memory_budget_mib
    return None if budget is None else budget * _MIB


def calibrate(
    features: PatchFeatures,
    groups: Sequence[str],
    modulation: Modulation | None,
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
        trained = fit_modulation(rest, settings)
        modulation = None if trained is None else trained.modulation
        bank = fit_bank(rest, modulation, settings)
        found.append(score_nominal(features.subset(chosen), modulation, bank, settings))
    *nominal, _ = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return _calibration(nominal, order, settings, "crossfit")


def calibrate_fit(
    features: PatchFeatures,
    groups: Sequence[str],
    split: NominalSplit,
    modulation: Modulation | None,
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


def score_nominal(
    features: PatchFeatures, modulation: Modulation | None, bank: MemoryBank, settings: Settings
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Image scores (n,), a sample of map pixels (m,), each map's largest pixel (n,), embeddings (n, E)."""
    limit_threads(settings.threads)
    scores, pixels, peaks, embeddings = [], [], [], []
    batches = score_blocks(features.blocks(), features.grid, modulation, bank, settings, features.region)
    for batch in track(batches, "calibrate", total=len(features)):
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
