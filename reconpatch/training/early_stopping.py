"""Stop when nominal validation patches no longer gain, and keep the best weights."""

import math
from copy import deepcopy
from typing import Any

from torch import nn


class EarlyStopping:
    """Watch the validation loss of a model.

    Args:
        patience: records without a better loss before training stops; None watches nothing and keeps
            the last weights.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._best_loss = math.inf
        self._best_state: dict[str, Any] | None = None
        self._misses = 0

    def should_stop(self, validation_loss: float | None, model: nn.Module) -> bool:
        """Take note of one record's validation loss."""
        if self._patience is None or validation_loss is None:
            return False
        if validation_loss < self._best_loss:
            self._best_loss, self._misses = validation_loss, 0
            self._best_state = deepcopy(model.state_dict())
        else:
            self._misses += 1
        return self._misses >= self._patience

    def restore_best(self, model: nn.Module) -> None:
        """Give the model the weights of its best record."""
        if self._best_state is not None:
            model.load_state_dict(self._best_state)
