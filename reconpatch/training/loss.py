"""The relaxed contrastive loss (paper, section 3.3, eqs. 7 and 8) with its gradient in closed form."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from reconpatch.training.similarity import squared_distances


def relaxed_contrastive_loss(embeddings: Tensor, weights: Tensor, margin: float) -> Tensor:
    """Pull patches together by ``weights``, push them apart to ``margin`` by the rest.

    With delta_ij = |z_i - z_j| / mean_n |z_i - z_n| (eq. 7, the row mean over all N patches):
    L = 1/N sum_ij [w_ij delta_ij^2 + (1 - w_ij) max(margin - delta_ij, 0)^2] (eq. 8; 1/N, not 1/N^2,
    and the pairs i = j inside, which add a constant).

    Where distances are 0 the loss has no gradient; there it is taken as 0, and so is delta where a
    patch equals all others, so that a batch of equal patches gives a finite loss and no gradient.

    Args:
        embeddings: (N, E) z, float32 or float64; the gradient goes here, once.
        weights: (N, N) w in [0, 1], from the teacher, no gradient.
        margin: m > 0, in units of the mean distance.

    Returns:
        Scalar tensor.
    """
    return _RelaxedContrastiveLoss.apply(embeddings, weights, margin)  # type: ignore[no-any-return]


class _RelaxedContrastiveLoss(torch.autograd.Function):
    """Gradient by hand: autograd would keep and walk a dozen (N, N) matrices, this keeps one (N, E)."""

    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, weights: Tensor, margin: float) -> Tensor:
        count = len(embeddings)
        distance = squared_distances(embeddings).sqrt_()
        inverse_mean = _inverse(distance.mean(1, keepdim=True))
        delta = distance * inverse_mean
        gap = (margin - delta).clamp_min_(0)
        pull = weights * delta
        push = torch.addcmul(gap, weights, gap, value=-1)
        loss = (torch.vdot(pull.view(-1), delta.view(-1)) + torch.vdot(push.view(-1), gap.view(-1))) / count
        if ctx.needs_input_grad[0]:
            slope = pull.sub_(push).mul_(2 / count)  # dL / d delta
            # delta depends on its row's mean as well:
            # dL / d|z_i - z_j| = (slope_ij - mean_n slope_in delta_in) / mean_n |z_i - z_n|
            through_mean = torch.linalg.vecdot(slope, delta)[:, None] / count
            pair = slope.sub_(through_mean).mul_(inverse_mean).mul_(_inverse(distance))
            pair = pair + pair.T
            gradient = torch.addmm(embeddings * pair.sum(1, keepdim=True), pair, embeddings, alpha=-1)
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return upstream * gradient, None, None


def _inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where values are 0."""
    return values.reciprocal().nan_to_num_(posinf=0.0)
