"""The memory bank of a fit: the coreset of its images' patches in f's space, at once or chunk by chunk."""

from collections.abc import Iterable, Iterator

import numpy as np

from reconpatch.coreset.k_center import coreset_size
from reconpatch.coreset.merge_reduce import Plan, merge_chunks, plan_selection, reduce_chunk, select_coreset
from reconpatch.device import choose_device, limit_threads
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.settings import Settings

_MIB = 1 << 20


def fit_bank(features: PatchFeatures, modulation: AnyModulation, settings: Settings) -> MemoryBank:
    """Select the coreset of the fit images' patches in f's space."""
    size = coreset_size(features.patches, settings.coreset.ratio, settings.coreset.max_bank)
    return select_bank(modulated(features, modulation), features.patches, size, settings)


def plan_bank(features: PatchFeatures, modulation: AnyModulation, settings: Settings) -> Plan:
    """How `fit_bank` selects: the chunks depend on the budget, and without one on this machine's memory."""
    size = coreset_size(features.patches, settings.coreset.ratio, settings.coreset.max_bank)
    return plan_selection(features.patches, size, modulation.dim, _memory_budget(settings))


def reduce_part(
    features: PatchFeatures, modulation: AnyModulation, plan: Plan, number: int, settings: Settings
) -> np.ndarray:
    """What `fit_bank` keeps of chunk ``number`` of its plan, (n, dim) float32; other images are not read."""
    limit_threads(settings.threads)
    rows, patches = plan.rows(number), features.patches_per_image
    first = rows.start // patches
    images = features.subset(range(first, -(-rows.stop // patches)))
    vectors = np.empty((len(rows), modulation.dim), np.float32)
    for i, block in enumerate(modulated(images, modulation), first):
        start, stop = max(rows.start, i * patches), min(rows.stop, (i + 1) * patches)
        vectors[start - rows.start : stop - rows.start] = block[start - i * patches : stop - i * patches]
    return reduce_chunk(vectors, plan, seed=settings.seed, device=choose_device(settings.device))


def bank_of_parts(reduced: Iterable[np.ndarray], plan: Plan, settings: Settings) -> MemoryBank:
    """The bank of `fit_bank` from what `reduce_part` kept of every chunk, in their order."""
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    return MemoryBank(merge_chunks(reduced, plan, seed=settings.seed, device=device)).to(device)


def modulated(features: PatchFeatures, modulation: AnyModulation) -> Iterator[np.ndarray]:
    """The (P, dim) float32 patches of one image after another in f's space."""
    for block in features.blocks():
        yield modulation.transform(block)


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
