"""Pseudo-labels of a mini-batch: how alike two patches are (paper, section 3.2, eqs. 1 to 6).

All functions are pure, take and return (N, N) tensors unless stated otherwise, and are defined for
every batch with N >= 1, for equal patches and for N smaller than k. No gradient is needed through
them: they see the teacher only.
"""

import torch
from torch import Tensor
from torch.nn import functional

# In units of machine epsilon and of |a|^2 + |b|^2: what rounding can make of the squared distance of
# two equal patches when it comes out of a Gram matrix.
_ROUNDING = 32.0
_MEDIAN_ROWS = 64


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared Euclidean distances by one matrix product.

    Args:
        embeddings: (N, E) float32 or float64.

    Returns:
        (N, N), >= 0; exactly 0 on the diagonal and between patches that are equal up to rounding.
    """
    norms = embeddings.square().sum(1)
    # Smaller by the rounding: equal patches then come out below 0, and are clamped to exactly 0.
    shrunk = norms * (1 - _ROUNDING * torch.finfo(embeddings.dtype).eps)
    return torch.addmm(shrunk[:, None] + shrunk, embeddings, embeddings.T, alpha=-2).relu_().fill_diagonal_(0)


def pairwise_similarity(squared: Tensor, sigma: float | None) -> Tensor:
    """Eq. 1: exp(-|z_i - z_j|^2 / sigma), in [0, 1].

    Args:
        squared: squared distances of the batch.
        sigma: width, in units of squared distance; None takes the median over the pairs i != j. Its
            value comes from the first 64 patches: they are drawn in random order, and the median of all
            261,632 pairs of a batch of 512 would cost as much as all the rest of a step.
    """
    if sigma is None:
        # All pairs i != j: behind each diagonal element stand N others before the next one.
        others = squared.flatten()[1:].view(-1, len(squared) + 1)[:_MEDIAN_ROWS, :-1]
        median = others.median() if others.numel() else squared.new_ones(())
        return squared.div(-median.clamp_min(torch.finfo(squared.dtype).tiny)).exp_()
    return squared.div(-sigma).exp_()


def nearest_neighbours(squared: Tensor, *ks: int) -> list[Tensor]:
    """Neighbourhoods N_k(i) (eq. 2): all j not farther from i than its k-th nearest other patch.

    The patch itself (distance 0) is a member and not counted, so a row holds k + 1 patches, more when
    several tie at the k-th place, and the whole batch when k >= N - 1.

    Args:
        squared: squared distances of the batch, 0 on the diagonal.
        ks: one or more neighbourhood sizes >= 0; the nearest are searched once for all of them.

    Returns:
        For each k (N, N) bool, row i being the members of N_k(i).
    """
    lasts = [min(k, len(squared) - 1) for k in ks]
    nearest = squared.topk(max(lasts) + 1, largest=False, sorted=True).values
    return [squared <= nearest[:, last, None] for last in lasts]


def reciprocal_neighbours(neighbours: Tensor) -> Tensor:
    """Sets R(i) (eq. 4): the members j of N(i) that have i as member of N(j), symmetric bool."""
    return neighbours & neighbours.T


def raw_contextual_similarity(neighbours: Tensor) -> Tensor:
    """Eq. 3: |N(i) & N(j)| / |N(i)| where j is in N(i), else 0; float32 in [0, 1].

    Args:
        neighbours: (N, N) bool from `nearest_neighbours`.
    """
    membership = neighbours.float()
    return _mean_rows(neighbours, membership.T.contiguous()).mul_(membership)


def expand_query(raw: Tensor, reciprocal: Tensor) -> Tensor:
    """Eq. 5, left part: e_ij, the mean of c_lj over the l in R(i); R row-normalised, times C.

    Args:
        raw: c from `raw_contextual_similarity`.
        reciprocal: (N, N) bool with a true diagonal, from `reciprocal_neighbours`.
    """
    return _mean_rows(reciprocal, raw)


def contextual_similarity(squared: Tensor, k: int) -> Tensor:
    """Eqs. 2 to 5: neighbourhoods of k, query expansion over reciprocal ones of k // 2, symmetrised.

    Returns:
        (N, N) float32 in [0, 1], symmetric.
    """
    neighbours, close = nearest_neighbours(squared, k, k // 2)
    expanded = expand_query(raw_contextual_similarity(neighbours), reciprocal_neighbours(close))
    return (expanded + expanded.T).mul_(0.5)


def combined_similarity(embeddings: Tensor, *, neighbours: int, alpha: float, sigma: float | None) -> Tensor:
    """Eq. 6: alpha times the PAIRWISE plus (1 - alpha) times the contextual similarity.

    Args:
        embeddings: (N, E) teacher embeddings.
        neighbours: k of the contextual similarity.
        alpha: weight of the pairwise similarity, in [0, 1].
        sigma: width of the pairwise similarity; None: the batch's median squared distance.

    Returns:
        (N, N) in [0, 1], symmetric.
    """
    squared = squared_distances(embeddings)
    if alpha == 0:
        return contextual_similarity(squared, neighbours).to(squared.dtype)
    if alpha == 1:
        return pairwise_similarity(squared, sigma)
    contextual = contextual_similarity(squared, neighbours)
    return pairwise_similarity(squared, sigma).mul_(alpha).add_(contextual, alpha=1 - alpha)


def _mean_rows(sets: Tensor, rows: Tensor) -> Tensor:
    """Mean of the ``rows`` that each set names: the row-normalised ``sets`` times ``rows``.

    A set has about k members of N, so that adding these up is some fifty times cheaper than the product.

    Args:
        sets: (N, N) bool, no row empty.
        rows: (N, N) float32, contiguous.
    """
    owner, member = sets.nonzero().unbind(1)
    starts = torch.searchsorted(owner, torch.arange(len(sets), device=sets.device))
    return functional.embedding_bag(member, rows, starts, mode="mean")
