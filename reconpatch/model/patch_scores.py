"""From patch vectors to patch and image scores (paper, eqs. 9 and 10)."""

import torch
from torch import Tensor, nn

from reconpatch.errors import DataError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.settings import ScoringSettings


class PatchScores(nn.Module):
    """Anomaly scores of patches and of their images against a memory bank.

    A patch's score is its distance to the nearest bank vector r* (eq. 9), times, where
    ``settings.reweighting`` says so, the weight of eq. 10. The image score is the largest patch
    score, before any blurring.
    """

    around: Tensor

    def __init__(self, bank: MemoryBank, settings: ScoringSettings) -> None:
        """Take a bank.

        Args:
            bank: the nominal vectors.
            settings: ``reweighting``: ``none``: eq. 9 alone (amazon's PatchCore code); ``patch``: eq. 10
                for every patch, as ReConPatch writes it; ``image``: eq. 10 for each image's largest
                distance only, patch scores stay eq. 9 (PatchCore's paper). ``neighbours``: b of eq. 10.
        """
        super().__init__()
        self.index = bank.index
        # A bank of one vector leaves nothing to compare with, so its weight is 1.
        self.reweighting = settings.reweighting if len(bank) > 1 else "none"
        around = torch.empty((0, 0), dtype=torch.int64)
        if self.reweighting != "none":
            around = torch.from_numpy(bank.neighbours(settings.neighbours)).to(self.index.vectors.device)
        self.register_buffer("around", around)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Score the patches of B images.

        Args:
            queries: (B, P, dim) float32 patch vectors.

        Returns:
            Patch scores (B, P) and image scores (B,), float32, not negative.

        Raises:
            DataError: the queries' width is not the bank's.

        Example:
            One image of two patches: the first is in the bank, the second lies 5 from the nearest vector.

            >>> import numpy as np
            >>> bank = MemoryBank(np.array([[0, 0], [30, 40]], np.float32))
            >>> scores = PatchScores(bank, ScoringSettings(reweighting="none"))
            >>> of_patches, of_images = scores(torch.tensor([[[0.0, 0.0], [3.0, 4.0]]]))
            >>> of_patches.tolist(), of_images.tolist()
            ([[0.0, 5.0]], [5.0])
        """
        images, patches, dim = queries.shape
        if dim != self.index.vectors.shape[1]:
            wanted = self.index.vectors.shape[1]
            raise DataError(
                f"queries have shape {tuple(queries.shape)}; must be (Q, {wanted}) as in the bank"
            )
        flat = queries.reshape(images * patches, dim)
        distances, nearest = self.index(flat)
        if self.reweighting == "patch":
            distances = distances * self.weights(flat, distances, nearest)
        scores = distances.reshape(images, patches)
        largest, worst = scores.max(dim=1)
        if self.reweighting == "image":
            place = worst + torch.arange(images, device=worst.device) * patches
            largest = largest * self.weights(flat[place], largest, nearest[place])
        return scores, largest

    def weights(self, queries: Tensor, distances: Tensor, nearest: Tensor) -> Tensor:
        """The weight of eq. 10: 1 - exp(D) / sum over r' in N_b(r*) of exp(D(query, r')).

        N_b(r*) are the b bank vectors nearest to r*, r* itself among them; a bank with fewer vectors gives
        them all. The softmax is shifted by its largest distance, so that it cannot overflow.

        Args:
            queries: (Q, dim) float32.
            distances: (Q,) distance D of each query to its nearest bank vector.
            nearest: (Q,) that vector's index.

        Returns:
            (Q,) float32 weights in [0, 1]; 1 where the other neighbours lie so far that float32 rounds to it.
        """
        to_neighbours = self.index.distances_to(queries, self.around[nearest])
        shift = to_neighbours.amax(dim=1)
        total = (to_neighbours - shift[:, None]).exp().sum(dim=1)
        return (1 - (distances - shift).exp() / total).clamp(min=0)
