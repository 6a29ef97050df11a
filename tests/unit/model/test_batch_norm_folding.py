import pytest
import torch
from torch import Tensor, nn

from reconpatch.model.batch_norm_folding import fold_batch_norm


def lively(network):
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.1)
            part.weight.data.copy_(torch.randn(part.num_features, generator=generator))
    return network.eval().requires_grad_(False)


def example():
    return torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class Levels(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> list[Tensor]:
        levels = []
        for part in self.parts:
            images = part(images)
            levels.append(images)
        return levels


class Residual(nn.Module):
    """Uses the convolution's output twice, so that nothing can be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> list[Tensor]:
        output = self.conv(images)
        return [output + self.norm(output)]


class OutOfOrder(nn.Module):
    """Defines its parts in another order than it uses them: norm, then convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(self.norm(images))]


@pytest.mark.parametrize("bias", [True, False])
def test_folding_keeps_the_function_and_drops_the_norms(bias):
    network = lively(
        Levels(
            nn.Sequential(nn.Conv2d(3, 5, 3, bias=bias), nn.BatchNorm2d(5), nn.ReLU()),
            nn.Sequential(nn.Conv2d(5, 4, 3, groups=1, bias=bias), nn.BatchNorm2d(4)),
        )
    )
    folded = fold_batch_norm(network, example())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())
    assert not any(part._forward_hooks for part in folded.modules())
    for before, after in zip(network(example()), folded(example()), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [Residual, OutOfOrder])
def test_what_cannot_be_folded_stays_and_works(make):
    network = lively(make())
    before = network(example())
    kept = fold_batch_norm(network, example())
    assert any(isinstance(part, nn.BatchNorm2d) for part in kept.modules())
    torch.testing.assert_close(kept(example()), before, rtol=0, atol=0)
