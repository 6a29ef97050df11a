"""What `reconpatch fit` and `update` print of the detector that they wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from reconpatch.cli.shared_options import write

if TYPE_CHECKING:
    from reconpatch.calibration.calibration import Calibration
    from reconpatch.storage.detector_folder import FittedParts


def print_fit(
    out: Path,
    members: "Sequence[FittedParts]",
    calibration: "Calibration | None",
    json_file: Path | None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Print what a detector folder holds, and write it as JSON where ``json_file`` asks for it."""
    from reconpatch.storage.detector_schema import json_values

    size = len(members[0].training_set)
    banks = " and ".join(f"{len(parts.bank)} x {parts.bank.dim}" for parts in members)
    typer.echo(f"{out}: {size} images, bank {banks}, {calibration_text(calibration)}")
    threshold = None if calibration is None else calibration.threshold
    values = {
        "model": str(out),
        "n_train": size,
        "bank": [sum(len(parts.bank) for parts in members), members[0].bank.dim],
        "threshold": None if threshold is None else threshold.value,
        "false_reject_rate": None if threshold is None else threshold.false_reject_rate,
        "false_reject_interval": None if threshold is None else list(threshold.interval),
        "calibration": None if calibration is None else json_values(calibration),
        "carried_over": calibration is not None and calibration.carried_over,
    }
    write(json_file, values | dict(more or {}))


def calibration_text(calibration: "Calibration | None") -> str:
    """The threshold and what it promises, on one line."""
    if calibration is None:
        return "not calibrated (too few groups to hold any out)"
    threshold, review = calibration.threshold, calibration.review
    low, high = threshold.interval
    text = (
        f"threshold {threshold.value:.4f} rejects {100 * threshold.false_reject_rate:.2g} % of good images "
        f"(95 %: {100 * low:.2g} to {100 * high:.2g} %), from {threshold.n} groups, "
        f"{len(calibration.nominal.values)} images; review from {review.value:.4f} "
        f"({100 * review.false_reject_rate:.2g} %)"
    )
    if calibration.method == "crossfit":
        text += "; approximate (crossfit)"
    if calibration.carried_over:
        text += "; carried over: the held-out images were not at hand; give them by --earlier or --cache"
    return text
