"""Training of f and g against their moving average (paper, sections 3.2 and 3.3)."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from timm.optim import AdamP
from torch import Tensor, nn
from torch.nn import functional

from reconpatch.device import one_thread
from reconpatch.errors import DataError
from reconpatch.model.modulation import AnyModulation, Modulation, Projection
from reconpatch.progress import track
from reconpatch.settings import ModulationSettings
from reconpatch.text.csv_files import write_rows
from reconpatch.training.early_stopping import EarlyStopping
from reconpatch.training.initialisation import (
    input_statistics,
    isometry_weight,
    random_weight,
    whitened_weight,
)
from reconpatch.training.loss import relaxed_contrastive_loss
from reconpatch.training.minibatches import as_rows, balanced_batches, load_batch
from reconpatch.training.similarity import combined_similarity

_RECORD_EVERY_STEPS = 100
_VALIDATION_BATCHES = 8


@dataclass(frozen=True)
class TrainingRecord:
    """The losses of one stretch of training: an epoch, or 100 steps when training goes by steps.

    Attributes:
        step: steps done at its end.
        train_loss: mean loss over the steps of the stretch.
        validation_loss: mean loss over fixed batches of the validation patches at its end, or None.
        ratio: validation_loss / train_loss; None without validation, or where the training loss is 0.
    """

    step: int
    train_loss: float
    validation_loss: float | None
    ratio: float | None


@dataclass(frozen=True)
class TrainedModulation:
    """A trained f and how its training went.

    Attributes:
        modulation: f, on the CPU; the identity where nothing was trained.
        history: one record a stretch, in order. The loss may rise while the teacher moves.
    """

    modulation: AnyModulation
    history: tuple[TrainingRecord, ...]


def write_history(path: Path, history: Sequence[TrainingRecord]) -> None:
    """Write the losses of f's training, a line a record; only the header without any."""
    write_rows(path, [[field.name for field in fields(TrainingRecord)], *map(astuple, history)])


class _Heads(nn.Module):
    """g after f, as one map from standardised patch features to the space of the loss."""

    def __init__(self, modulation: Modulation, projection: Projection) -> None:
        super().__init__()
        self.modulation = modulation
        self.projection = projection

    def forward(self, standardised: Tensor) -> Tensor:
        # Both are linear: multiplying their weights first is a quarter of the work, forward and back.
        return functional.linear(standardised, self.projection.weight @ self.modulation.weight)

    @torch.no_grad()
    def follow(self, student: "_Heads", gamma: float) -> None:
        for mine, theirs in zip(self.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, 1 - gamma)


def train_modulation(
    features: np.ndarray,
    settings: ModulationSettings,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    validation: np.ndarray | None = None,
    patience: int | None = None,
    observe: Callable[[int, Modulation], None] | None = None,
    parts: Sequence[int] | None = None,
    validation_parts: Sequence[int] | None = None,
) -> TrainedModulation:
    """Train f on nominal patch features, of one category or of several together.

    The same features, settings, seed and device give the same bytes. On the CPU it takes one thread.

    Args:
        features: (n, D) float16 or float32 of all images, may be a memory map. Batches are random
            patches over all images.
        settings: the section ``modulation``.
        seed: seeds the start of f and g and the order of the patches.
        device: where to train.
        validation: (m, D) nominal patches of other images, to watch the loss on and to stop early by.
        patience: records without a better validation loss before training stops; None never stops early.
        observe: shown the steps done and f, before the first step and at every record; f then moves on.
        parts: rows of each category, where ``features`` holds those of several one after another: every
            batch then has as many of each. None: of one category.
        validation_parts: the same of ``validation``.

    Raises:
        DataError: there are no patches, they are not (n, D), or not finite.
        ValueError: ``patience`` or ``validation_parts`` is given and there is no validation, or parts are not
            all the rows.
    """
    rows = as_rows(features, "features")
    watched = None if validation is None else as_rows(validation, "validation features")
    if watched is not None and watched.shape[1] != rows.shape[1]:
        raise DataError(f"validation features are {watched.shape[1]} wide and features {rows.shape[1]}")
    if patience is not None and watched is None:
        raise ValueError("patience needs validation features to stop by; give some, or no patience")
    _check_parts(parts, rows)
    _check_parts(validation_parts, watched)
    generator = torch.Generator().manual_seed(seed)
    with one_thread():
        student = _start(rows, settings, generator).to(device)
        picks = balanced_batches(parts or [len(rows)], settings.batch_size, generator)
        watching = _validation_batches(watched, validation_parts, settings, student.projection.weight.device)
        history = _run(student, rows, watching, settings, picks, patience, observe)
    return TrainedModulation(student.modulation.cpu(), tuple(history))


def _check_parts(parts: Sequence[int] | None, rows: np.ndarray | None) -> None:
    count = 0 if rows is None else len(rows)
    if parts is not None and (sum(parts) != count or min(parts, default=0) < 1):
        raise ValueError(f"parts {list(parts)} must be at least 1 each and {count} together")


def _start(rows: np.ndarray, settings: ModulationSettings, generator: torch.Generator) -> _Heads:
    dim_in, dim = rows.shape[1], settings.dim
    mean, scale = input_statistics(rows)
    if settings.init == "random":
        weight = random_weight(dim_in, dim, generator)
        projection = random_weight(dim, settings.projection_dim, generator)
    else:
        weight = whitened_weight(rows, dim, settings.whitening, generator)
        projection = isometry_weight(dim, settings.projection_dim, generator)
    return _Heads(Modulation(weight, mean, scale), Projection(projection))


def _run(
    student: _Heads,
    rows: np.ndarray,
    validation: Sequence[Tensor],
    settings: ModulationSettings,
    picks: Iterator[np.ndarray],
    patience: int | None,
    observe: Callable[[int, Modulation], None] | None,
) -> list[TrainingRecord]:
    device = student.projection.weight.device
    steps, every = _schedule(len(rows), settings)
    teacher = deepcopy(student).requires_grad_(False)
    optimiser = AdamP(student.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=max(steps, 1))
    stopping = EarlyStopping(patience)
    history: list[TrainingRecord] = []
    losses: list[Tensor] = []
    if observe is not None:
        observe(0, student.modulation)
    for step, picked in enumerate(track(islice(picks, steps), "modulation", total=steps), start=1):
        loss = _loss(student, teacher, load_batch(rows, picked, device), settings)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        teacher.follow(student, settings.ema)
        losses.append(loss.detach())
        if step % every == 0 or step == steps:
            with torch.no_grad():
                validation_losses = [_loss(student, teacher, batch, settings) for batch in validation]
            history.append(_record(step, losses, validation_losses))
            losses = []
            if observe is not None:
                observe(step, student.modulation)
            if stopping.should_stop(history[-1].validation_loss, student):
                break
    stopping.restore_best(student)
    return history


def _schedule(count: int, settings: ModulationSettings) -> tuple[int, int]:
    """Steps in all, and steps between two records."""
    if settings.steps is not None:
        return settings.steps, _RECORD_EVERY_STEPS
    assert settings.epochs is not None  # noqa: S101  ModulationSettings demands one of the two
    per_epoch = max(1, count // settings.batch_size)
    return settings.epochs * per_epoch, per_epoch


def _loss(student: _Heads, teacher: _Heads, batch: Tensor, settings: ModulationSettings) -> Tensor:
    standardised = student.modulation.standardise(batch)
    weights = combined_similarity(
        functional.normalize(teacher(standardised), dim=1),
        neighbours=settings.neighbours,
        alpha=settings.alpha,
        sigma=settings.sigma,
    )
    return relaxed_contrastive_loss(student(standardised), weights, settings.margin)


def _validation_batches(
    watched: np.ndarray | None,
    parts: Sequence[int] | None,
    settings: ModulationSettings,
    device: torch.device,
) -> list[Tensor]:
    """The same few batches at every record and every seed, so that losses compare."""
    if watched is None:
        return []
    wanted = min(_VALIDATION_BATCHES, max(1, len(watched) // settings.batch_size))
    picks = balanced_batches(parts or [len(watched)], settings.batch_size, torch.Generator().manual_seed(0))
    return [load_batch(watched, picked, device) for picked in islice(picks, wanted)]


def _record(step: int, losses: list[Tensor], validation_losses: list[Tensor]) -> TrainingRecord:
    train_loss = torch.stack(losses).mean().item()
    if not validation_losses:
        return TrainingRecord(step, train_loss, None, None)
    validation_loss = torch.stack(validation_losses).mean().item()
    ratio = validation_loss / train_loss if train_loss else None  # equal patches cost nothing
    return TrainingRecord(step, train_loss, validation_loss, ratio)
