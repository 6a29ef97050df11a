"""Coreset selection from a stream of feature blocks, in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.coreset.k_center import k_center_greedy
from reconpatch.coreset.memory_budget import default_memory_budget
from reconpatch.errors import DataError, SettingsError

# Of each chunk twice the final size is kept where that fits: its radius is then well below the bound.
_OVERSAMPLING = 2


def working_bytes(width: int) -> int:
    """Bytes that exact selection needs for each vector of ``width`` float32 numbers, at most.

    The vector, its coordinates twice while they are put in order, and its bounds.
    """
    return 3 * 4 * width + 128


@dataclass(frozen=True)
class Plan:
    """How a selection goes: exactly, or chunk by chunk.

    Attributes:
        total: number of vectors.
        size: how many are selected.
        capacity: vectors in a chunk, the last one excepted; ``total`` where selection is exact.
    """

    total: int
    size: int
    capacity: int

    @property
    def chunks(self) -> int:
        """Number of chunks; 1 where selection is exact."""
        return -(-self.total // self.capacity)

    @property
    def kept(self) -> int:
        """Vectors that k-center keeps of a chunk which has more."""
        return min(_OVERSAMPLING * self.size, max(self.size, self.capacity // self.chunks))

    def rows(self, number: int) -> range:
        """The vectors of a chunk."""
        return range(number * self.capacity, min(self.total, (number + 1) * self.capacity))


def plan_selection(total: int, size: int, width: int, memory_budget: int | None) -> Plan:
    """The chunks that fit a budget; arguments as of `select_coreset`, vectors of ``width`` numbers.

    Raises:
        SettingsError: as `select_coreset`.
    """
    if not 1 <= size <= total:
        raise SettingsError(f"size is {size}: must be 1 to the number of vectors, {total}")
    budget = default_memory_budget(_least(size, width)) if memory_budget is None else memory_budget
    return Plan(total, size, _capacity(width, total, size, budget))


def reduce_chunk(
    vectors: NDArray[np.float32], plan: Plan, *, seed: int, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """What `select_coreset` keeps of one chunk, (n, D) float32; chunks do not depend on each other."""
    return _select(vectors, min(plan.kept, len(vectors)), seed, device)


def merge_chunks(
    reduced: Iterable[NDArray[np.float32]], plan: Plan, *, seed: int, device: torch.device | str = "cpu"
) -> NDArray[np.float32]:
    """The selection from what was kept of each chunk, in their order: (size, D) float32."""
    union: NDArray[np.float32] | None = None
    for part in reduced:
        if union is None:
            union = np.empty((0, part.shape[1]), dtype=np.float32)
        if len(union) + plan.kept > plan.capacity:
            union = _select(union, plan.size, seed, device)
        union = np.concatenate([union, part])
    if union is None:
        raise DataError("no chunk came; nothing can be selected")
    return _select(union, plan.size, seed, device)


def select_coreset(
    blocks: Iterable[NDArray[np.float32]],
    total: int,
    size: int,
    *,
    seed: int,
    memory_budget: int | None = None,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Greedy k-center selection of ``size`` of ``total`` vectors that come in blocks.

    What fits the budget at ``working_bytes`` a vector is selected exactly, as `k_center_greedy` does;
    every vector then lies within 2 OPT of a selected one, OPT being the smallest covering radius that
    any ``size`` points of the space can reach. More is merge-reduced: half of the budget takes one
    chunk after the other, of each of which k-center keeps ``size`` vectors or more; the other half
    collects what was kept, and k-center selects from that union. Each selection adds at most 2 OPT to
    the radius (farthest-first on a subset is bounded by the optimum of the whole: of ``size`` + 1
    vectors farther apart than 2 OPT, two would share an optimal centre). So the radius is at most 4
    OPT, and 2 OPT more for each time that the union outgrows its half and is itself reduced.

    Args:
        blocks: (n_i, D) float32 arrays, read once.
        total: number of vectors in all blocks.
        size: 1 to ``total``.
        seed: of the first centre.
        memory_budget: bytes; the peak stays below it by the blocks' own size and about 100 MiB of
            buffers. None: 2 GiB, more where ``size`` needs it, at most a quarter of the machine's memory.
        device: torch device of the matrix products; the selection does not depend on it.

    Returns:
        (size, D) float32 in selection order.

    Raises:
        SettingsError: ``size`` is not in 1 to ``total``, or the budget does not hold four times as
            many vectors as are selected.
        DataError: the blocks have no or other widths, or not ``total`` vectors.
    """
    stream = iter(blocks)
    first = next(stream, None)
    if first is None or first.ndim != 2:
        raise DataError(f"{total} vectors were announced and no (n, D) block came")
    plan = plan_selection(total, size, first.shape[1], memory_budget)
    chunks = _chunks(chain([first], stream), total, plan.capacity)
    if plan.chunks == 1:
        return _select(next(chunks), size, seed, device)
    return merge_chunks(
        (reduce_chunk(chunk, plan, seed=seed, device=device) for chunk in chunks),
        plan,
        seed=seed,
        device=device,
    )


def _least(size: int, width: int) -> int:
    """Bytes with which merge-reduce can select ``size`` vectors, in whole MiB."""
    return (-(-(4 * size + 1) * working_bytes(width) >> 20) + 1) << 20


def _capacity(width: int, total: int, size: int, budget: int) -> int:
    """Vectors in a chunk: ``total`` where all fit, else as many as half of the budget holds."""
    fitting = budget // working_bytes(width)
    if total <= fitting:
        return total
    if fitting // 2 < 2 * size:
        raise SettingsError(
            f"coreset.memory_budget_mib: {budget >> 20} MiB is too little to select {size} vectors of "
            f"width {width}; give {_least(size, width) >> 20} MiB, or lower coreset.ratio or coreset.max_bank"
        )
    return fitting // 2


def _select(
    vectors: NDArray[np.float32], size: int, seed: int, device: torch.device | str
) -> NDArray[np.float32]:
    return vectors[k_center_greedy(vectors, size, seed=seed, device=device)]


def _chunks(
    blocks: Iterable[NDArray[np.float32]], total: int, capacity: int
) -> Iterator[NDArray[np.float32]]:
    """Arrays of ``capacity`` vectors, the last one shorter; asking for the next overwrites one."""
    buffer: NDArray[np.float32] | None = None
    filled = seen = 0
    for block in blocks:
        if buffer is None:
            buffer = np.empty((capacity, block.shape[1]), dtype=np.float32)
        if block.ndim != 2 or block.shape[1] != buffer.shape[1]:
            raise DataError(f"a block has shape {block.shape}; must be (n, {buffer.shape[1]}) as the first")
        seen += len(block)
        if seen > total:
            break
        while len(block):
            if filled == capacity:
                yield buffer
                filled = 0
            part = block[: capacity - filled]
            buffer[filled : filled + len(part)] = part
            filled, block = filled + len(part), block[len(part) :]
    if seen != total or buffer is None:
        raise DataError(f"{total} vectors were announced and {seen} came; the features changed meanwhile")
    yield buffer[:filled]
