"""The picture of a check says whether it is an alarm, of what, and shows the checks before it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.line.monitoring.drift_checks import DriftCheck
from reconpatch.line.monitoring.drift_plots import drift_figure

NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
CHECK = DriftCheck(NOW, NOW, NOW, "v/1", 40, 60, 3e-4, 1e-4, {"score": 0.2, "brightness": 1e-4}, 0.0)


def _images(count: int, brightness: float) -> pd.DataFrame:
    random = np.random.default_rng(count)
    columns = {"score": 30, "brightness": brightness, "contrast": 20, "sharpness": 300}
    return pd.DataFrame({name: random.normal(mean, 5, count) for name, mean in columns.items()})


def test_an_alarm_is_named_and_earlier_checks_are_shown() -> None:
    checks = [replace(CHECK, time=NOW - timedelta(hours=i), p_value=0.5) for i in range(5, 0, -1)] + [CHECK]
    figure = drift_figure(_images(40, 120), _images(60, 130), checks, 42.0, "demo nut, version 3")
    assert figure.get_suptitle() == "demo nut, version 3: ALARM: brightness   p = 0.0001, level 0.0003"
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:4] == ["score", "brightness", "contrast", "sharpness"]
    history = figure.axes[5].get_lines()
    assert [len(line.get_xdata()) for line in history] == [6, 6, 1]
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_images_of_unknown_looks_are_not_drawn() -> None:
    reference = _images(40, 120)
    reference.loc[3, "brightness"] = np.nan
    told = drift_figure(reference, _images(60, 130), [CHECK], None, "nut").axes[0].get_legend().get_texts()
    assert [text.get_text() for text in told] == ["held out (n = 39)", "new (n = 60)"]


def test_a_first_check_of_an_uncalibrated_detector_can_be_drawn() -> None:
    quiet = replace(CHECK, p_value=0.5)
    figure = drift_figure(_images(40, 120), _images(60, 120), [quiet], None, r"$\nut$")
    assert figure.get_suptitle().startswith(r"$\nut$: no alarm")
    assert png_bytes(figure)
