"""Rows of a prediction log."""

from datetime import UTC, datetime

import numpy as np

from reconpatch.line.monitoring.prediction_log import LoggedPrediction


def row(
    number: int = 0, when: datetime = datetime(2026, 11, 25, 10, tzinfo=UTC), **changes
) -> LoggedPrediction:
    values = {
        "time": when,
        "category": "nut",
        "model_version": "reconpatch-demo-nut/3",
        "image": f"{number}.png",
        "group": str(number),
        "score": float(number),
        "is_anomalous": False,
        "band": "accept",
        "false_reject_probability": 0.5,
        "brightness": 120.0,
        "contrast": 20.0,
        "sharpness": 300.0,
        "embedding": np.arange(4, dtype=np.float16),
    }
    return LoggedPrediction(**{**values, **changes})
