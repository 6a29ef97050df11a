"""The paper's contribution: a linear modulation of the patch features, trained contrastively."""

from reconpatch.modulation.head import Modulation
from reconpatch.modulation.loss import relaxed_contrastive_loss
from reconpatch.modulation.similarity import combined_similarity, contextual_similarity, pairwise_similarity
from reconpatch.modulation.training import TrainedModulation, TrainingRecord, train_modulation

__all__ = [
    "Modulation",
    "TrainedModulation",
    "TrainingRecord",
    "combined_similarity",
    "contextual_similarity",
    "pairwise_similarity",
    "relaxed_contrastive_loss",
    "train_modulation",
]
