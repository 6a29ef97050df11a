"""Stopping by the validation loss."""

import torch
from torch import nn

from reconpatch.training.early_stopping import EarlyStopping


def run(patience, losses):
    model, stopping = nn.Linear(1, 1, bias=False), EarlyStopping(patience)
    for number, loss in enumerate(losses, start=1):
        with torch.no_grad():
            model.weight.fill_(number)
        if stopping.should_stop(loss, model):
            break
    stopping.restore_best(model)
    return number, model.weight.item()


def test_stops_after_patience_records_without_a_better_loss_and_keeps_the_best():
    assert run(2, [5.0, 3.0, 4.0, 3.0, 1.0]) == (4, 2)


def test_a_better_loss_starts_the_count_anew():
    assert run(2, [5.0, 6.0, 4.0, 6.0, 3.0]) == (5, 5)


def test_without_patience_the_last_weights_stay():
    assert run(None, [1.0, 2.0, 3.0]) == (3, 3)
    assert run(None, [None, None]) == (2, 2)
