"""What a calibration can promise, asked before the work, against the rule that a fit follows."""

from pathlib import Path

import pytest
from PIL import Image

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.calibration.promise import foresee, promise_line
from reconpatch.data.nominal_split import split_nominal
from reconpatch.settings import load_settings


def _category(root: Path, images: int, per_group: int = 1) -> Path:
    folder = root / "nut/train/good"
    folder.mkdir(parents=True)
    for number in range(images):
        Image.new("L", (4, 4), number % 256).resize((4, 4 + number // 256)).save(
            folder / f"part{number // per_group}_{number}.png"
        )
    return root / "nut"


@pytest.mark.parametrize(
    ("images", "values"),
    [
        (40, {}),
        (84, {}),
        (84, {"calibrate.holdout": 0.5}),
        (60, {"calibrate.calibration": "crossfit"}),
        (60, {"calibrate.false_reject_rate": 0.2, "calibrate.review_rate": 0.3}),
    ],
)
def test_it_is_what_a_fit_then_promises_and_the_images_that_it_names_are_the_fewest_that_do(
    tmp_path: Path, images: int, values: dict[str, object]
) -> None:
    settings = load_settings(None, values)
    promise = foresee(_category(tmp_path, images), settings)
    scores = [float(number) for number in range(promise.calibrating)]
    found = calibrate_scores(scores, scores, scores)
    assert promise.rates == (found.threshold.false_reject_rate, found.review.false_reject_rate)
    for wanted, needed in zip(promise.wanted, promise.groups_needed, strict=True):
        total = promise.images_needed(needed)
        for count, does in ((total, True), (total - 1, False)):
            names = [f"{number}.png" for number in range(count)]
            groups = split_nominal(names, names, names, settings).calibrating_groups
            assert (groups >= needed) == does
        limits = calibrate_scores(*3 * [[float(number) for number in range(needed)]])
        assert min(limits.threshold.false_reject_rate, limits.review.false_reject_rate) <= wanted + 1e-9


def test_the_line_names_what_is_there_and_what_is_needed(tmp_path: Path) -> None:
    root = _category(tmp_path, 84, per_group=2)
    settings = load_settings(None, {"data.group_pattern": r"(part\d+)_"})
    assert promise_line("nut", root, settings) == (
        "nut: 84 good images in 42 groups, of which 7 calibrate (calibrate.holdout 0.15): at most 12 % of "
        "good parts rejected, 25 % to review; 1 % rejected needs 99 calibrating groups, about 1308 good "
        "images; 5 % to review needs 39 calibrating groups, about 508 good images"
    )
    enough = load_settings(None, {"calibrate.false_reject_rate": 0.2, "calibrate.review_rate": 0.2})
    assert "needs" not in str(foresee(root, enough))
    for values in ({"calibrate.holdout": 0.0}, {"data.group_pattern": "(part)"}):
        assert "no threshold and no verdicts" in str(foresee(root, load_settings(None, values)))
    assert promise_line("nut", tmp_path / "gone", settings) is None
