"""Cost of one training step of the modulation beside the plain transcription of the equations.

    python -m benchmarks.modulation_step [--threads 1]

Both do 512 random patches of 152 dimensions, f of 512, g of 128, AdamP; they take turns, and medians of
process time are printed, so that other load on the machine weighs on both alike.
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy

import torch
from timm.optim import AdamP
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.timing import in_turn
from reconpatch.training.initialisation import isometry_weight
from reconpatch.training.loss import relaxed_contrastive_loss
from reconpatch.training.similarity import combined_similarity

PATCHES, WIDTH, DIM, PROJECTION, K = 512, 152, 512, 128, 5


def plain_weights(z: Tensor, alpha: float) -> Tensor:
    """Eqs. 1 to 6 as they are written: sorted distances, dense products of membership matrices."""
    distance = torch.cdist(z, z)
    ranked = distance.sort(dim=1).values
    pairwise = torch.exp(-distance.square() / distance.square().median())
    wide, close = ((distance <= ranked[:, k, None]).float() for k in (K, K // 2))
    raw = wide @ wide.T / wide.sum(1, keepdim=True) * wide
    reciprocal = close * close.T
    expanded = reciprocal @ raw / reciprocal.sum(1, keepdim=True)
    return alpha * pairwise + (1 - alpha) * (expanded + expanded.T) / 2


def plain_loss(z: Tensor, weights: Tensor) -> Tensor:
    """Eqs. 7 and 8 with autograd."""
    distance = (torch.cdist(z, z, compute_mode="use_mm_for_euclid_dist").square() + 1e-12).sqrt()
    delta = distance / distance.mean(1, keepdim=True)
    return (weights * delta.square() + (1 - weights) * (1 - delta).relu().square()).sum() / len(z)


def make_step(plain: bool, alpha: float) -> Callable[[], None]:
    """A closure that does one step."""
    generator = torch.Generator().manual_seed(0)
    f, g = (nn.Linear(*shape, bias=False) for shape in ((WIDTH, DIM), (DIM, PROJECTION)))
    for layer in (f, g):
        layer.weight.data = isometry_weight(layer.in_features, layer.out_features, generator)
    teachers = [deepcopy(layer).requires_grad_(False) for layer in (f, g)]
    parameters = [f.weight, g.weight]
    optimiser = AdamP(parameters, lr=1e-3, weight_decay=1e-2)

    def embed(layers: tuple[nn.Linear, nn.Linear] | list[nn.Linear], x: Tensor) -> Tensor:
        first, second = layers
        return second(first(x)) if plain else functional.linear(x, second.weight @ first.weight)

    def step() -> None:
        x = torch.randn(PATCHES, WIDTH, generator=generator)
        target = functional.normalize(embed(teachers, x), dim=1)
        if plain:
            loss = plain_loss(embed((f, g), x), plain_weights(target, alpha))
        else:
            weights = combined_similarity(target, neighbours=K, alpha=alpha, sigma=None)
            loss = relaxed_contrastive_loss(embed((f, g), x), weights, 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for teacher, weight in zip(teachers, parameters, strict=True):
                teacher.weight.lerp_(weight, 0.001)

    return step


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    for alpha in (0.5, 0.0):
        steps = {"plain": make_step(True, alpha), "ours": make_step(False, alpha)}
        seconds = in_turn(steps, 60, warm_up=10, clock=time.process_time)
        plain, ours = (1e3 * seconds[name] for name in ("plain", "ours"))
        print(
            f"alpha {alpha}: plain {plain:.1f} ms, ours {ours:.1f} ms a step, {plain / ours:.1f} times faster"
        )


if __name__ == "__main__":
    main()
