"""Eqs. 7 and 8 against a naive loop, a hand-worked case, numeric gradients and degenerate batches."""

import numpy as np
import pytest
import torch

from reconpatch.training.loss import relaxed_contrastive_loss


def random_case(count, seed=0, width=4):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(count, width, dtype=torch.float64, generator=generator)
    w = torch.rand(count, count, dtype=torch.float64, generator=generator)
    return z, (w + w.T) / 2


def naive_loss(z, w, margin):
    n = len(z)
    total = 0.0
    for i in range(n):
        distances = [np.sqrt(((z[i] - z[j]) ** 2).sum()) for j in range(n)]
        mean = sum(distances) / n
        for j in range(n):
            delta = distances[j] / mean if mean else 0.0
            total += w[i, j] * delta**2 + (1 - w[i, j]) * max(margin - delta, 0.0) ** 2
    return total / n


@pytest.mark.parametrize("count", [1, 2, 3, 20])
@pytest.mark.parametrize("margin", [0.5, 1.0, 1.7])
def test_loss_equals_naive_loop(count, margin):
    z, w = random_case(count)
    assert relaxed_contrastive_loss(z, w, margin).item() == pytest.approx(
        naive_loss(z.numpy(), w.numpy(), margin)
    )


def test_loss_worked_by_hand():
    # Points 0 and 3 on a line: row means 1.5, delta 2 off the diagonal, 0 on it.
    z = torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    w = torch.tensor([[1.0, 0.25], [0.25, 0.5]], dtype=torch.float64)
    # Row 0: 0 + 0.25 * 4; row 1: 0.25 * 4 + 0.5 * 1; the mean over two rows.
    assert relaxed_contrastive_loss(z, w, 1.0).item() == pytest.approx((1.0 + 1.5) / 2)


def test_loss_does_not_depend_on_the_scale_of_the_embeddings():
    z, w = random_case(15)
    torch.testing.assert_close(relaxed_contrastive_loss(z, w, 1.0), relaxed_contrastive_loss(7 * z, w, 1.0))


@pytest.mark.parametrize("count", [2, 3, 9])
@pytest.mark.parametrize("margin", [0.8, 1.3])
def test_gradient_equals_numeric_gradient(count, margin):
    z, w = random_case(count, seed=count)
    assert torch.autograd.gradcheck(lambda x: relaxed_contrastive_loss(x, w, margin), z.requires_grad_())


def test_gradient_equals_autograd_through_the_naive_formula():
    z, w = random_case(12)
    z.requires_grad_()
    distance = (z[:, None] - z + 1e-30 * torch.eye(12)[..., None]).norm(dim=2)
    delta = distance / distance.mean(1, keepdim=True)
    loss = (w * delta**2 + (1 - w) * (1.0 - delta).clamp_min(0) ** 2).sum() / 12
    (expected,) = torch.autograd.grad(loss, z)
    (actual,) = torch.autograd.grad(3 * relaxed_contrastive_loss(z, w, 1.0), z)
    torch.testing.assert_close(actual, 3 * expected)


@pytest.mark.parametrize("count", [1, 2, 30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_patches_give_finite_loss_and_no_gradient(count, dtype):
    z = torch.full((count, 5), 1.7, dtype=dtype, requires_grad=True)
    loss = relaxed_contrastive_loss(z, torch.full((count, count), 0.25, dtype=dtype), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(0.75 * count)  # every delta is 0: (1 - w) m^2 for N patches a row
    assert z.grad.eq(0).all()


def test_a_patch_that_occurs_twice_keeps_the_gradient_finite():
    z, w = random_case(6)
    z[1] = z[0]
    z.requires_grad_()
    relaxed_contrastive_loss(z, w, 1.0).backward()
    assert z.grad.isfinite().all()
    assert z.grad.abs().sum() > 0


def test_descent_pulls_the_alike_together_and_pushes_the_unlike_apart():
    z = torch.tensor(
        [[0.0, 0.0], [1.0, 0.0], [0.0, 1.1], [1.0, 1.0]], dtype=torch.float64, requires_grad=True
    )
    w = torch.eye(4, dtype=torch.float64)
    w[0, 1] = w[1, 0] = w[2, 3] = w[3, 2] = 1.0
    for _ in range(50):
        (gradient,) = torch.autograd.grad(relaxed_contrastive_loss(z, w, 1.0), z)
        z = (z - 0.05 * gradient).detach().requires_grad_()
    distance = torch.cdist(z, z)
    assert distance[0, 1] < 0.3 * distance[0, 2]
    assert distance[2, 3] < 0.3 * distance[1, 3]
