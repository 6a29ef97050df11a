"""What is held out: the draw among the images that were there, the lot among those that arrived."""

import argparse
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from reconpatch.data.batch_folders import (
    has_arrived,
    is_in_lot,
    name_in_inbox,
    target_in_batch,
    without_lot,
)
from reconpatch.data.groups import hold_out_groups
from reconpatch.data.nominal_split import is_drawn, split_nominal
from reconpatch.settings import load_settings

ROOT = Path(__file__).resolve().parents[3]
BATCH = "train/good/arrivals-0123456789ab"
SETTINGS = load_settings(None, {"calibrate.holdout": 0.2})


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def test_a_path_tells_where_an_image_came_from() -> None:
    lot = f"/data/toy/nut/{BATCH}/{target_in_batch('deep/a.png', in_lot=True)}"
    fit = f"{BATCH}/{target_in_batch('deep/a.png', in_lot=False)}"
    assert (has_arrived(lot), is_in_lot(lot), name_in_inbox(lot)) == (True, True, "deep/a.png")
    assert (has_arrived(fit), is_in_lot(fit), name_in_inbox(fit)) == (True, False, "deep/a.png")
    assert without_lot(lot) == f"/data/toy/nut/{fit}"
    assert without_lot(fit) == fit
    for path in ("train/good/a.png", "train/good/arrivals-monday/+calibration/a.png", "+calibration/a.png"):
        assert (has_arrived(path), is_in_lot(path), name_in_inbox(path)) == (False, False, None)
    forged = f"{BATCH}/{target_in_batch('+calibration/a.png', in_lot=False)}"
    assert (has_arrived(forged), is_in_lot(forged)) == (True, False)


def test_the_lot_is_drawn_by_the_name_alone_near_its_share_and_a_larger_one_holds_it() -> None:
    keys = [_digest(str(number)) for number in range(4_000)]
    drawn = {share: {key for key in keys if is_drawn(key, share)} for share in (0.0, 0.1, 0.15, 0.3, 1.0)}
    for share, found in drawn.items():
        assert abs(len(found) / len(keys) - share) <= 4 * np.sqrt(share * (1 - share) / len(keys))
    assert drawn[0.1] < drawn[0.15] < drawn[0.3]
    # With another answer a group whose images come on several days would change its side.
    assert [name for name in "abcdefgh" if is_drawn(_digest(name), 0.5)] == ["e", "h"]


def test_arrivals_change_nothing_of_the_draw_among_the_first_images() -> None:
    first = [f"train/good/{number}.png" for number in range(100)]
    parts = [f"part{number // 3}" for number in range(100)]
    fit = [f"{BATCH}/{number}.png" for number in range(170)]
    lot = [f"{BATCH}/+calibration/{number}.png" for number in range(30)]
    paths = [*lot, *first, *fit]
    groups = [*lot, *parts, *fit]
    split = split_nominal(paths, groups, [_digest(path) for path in paths], SETTINGS)
    held = {paths[i] for i in split.holdout}
    drawn = hold_out_groups(parts, 0.2, SETTINGS.seed)
    assert held == {*lot, *(path for path, one in zip(first, drawn, strict=True) if one)}
    assert {paths[i] for i in split.fit} == set(paths) - held
    alone = split_nominal(first, parts, [_digest(path) for path in first], SETTINGS)
    np.testing.assert_array_equal(alone.holdout, np.flatnonzero(drawn))


def test_arrivals_of_a_part_that_was_there_follow_it_and_content_stays_whole() -> None:
    first, new = [f"train/good/{number}.png" for number in range(20)], f"{BATCH}/new.png"
    digests = [_digest(path) for path in first]
    held = split_nominal(first, first, digests, SETTINGS).holdout
    fits = sorted(set(range(20)) - set(held))
    for place, calibrates in ((held[0], True), (fits[0], False)):
        by_group = split_nominal([*first, new], [*first, first[place]], [*digests, "n"], SETTINGS)
        by_content = split_nominal([*first, new], [*first, new], [*digests, digests[place]], SETTINGS)
        for split in (by_group, by_content):
            assert (20 in split.holdout) == calibrates
            assert set(held) <= set(split.holdout)


def test_of_arrivals_alone_something_fits_and_something_calibrates() -> None:
    for folder in ("", "+calibration/"):
        paths = [f"{BATCH}/{folder}{number}.png" for number in range(20)]
        split = split_nominal(paths, paths, [_digest(path) for path in paths], SETTINGS)
        assert (len(split.fit), len(split.holdout)) == (16, 4)


@pytest.mark.parametrize(("rule", "keeps"), [("lot", True), ("filtered", False)])
def test_the_promise_holds_in_every_round_of_arrivals(rule: str, keeps: bool) -> None:
    """The simulation of benchmarks/arrivals.py in small; the other rule shows that it would see the fault."""
    spec = importlib.util.spec_from_file_location("arrivals", ROOT / "benchmarks" / "arrivals.py")
    assert spec is not None
    assert spec.loader is not None
    simulation = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(simulation)
    given = argparse.Namespace(first=100, arrivals=500, rounds=4, rule=rule, share=0.15)
    broken = np.empty((16, given.rounds))
    for line in range(len(broken)):
        settings = load_settings(None, {"calibrate.holdout": given.share, "seed": line})
        found = simulation.rounds(given, settings, np.random.default_rng([1, line]))
        for place, (_, calibration, _) in enumerate(found):
            promised = calibration.threshold.false_reject_rate
            broken[line, place] = simulation.LAW.sf(calibration.threshold.value) / promised
    error = broken.std(axis=0, ddof=1) / np.sqrt(len(broken))
    over = broken.mean(axis=0) > 1 + 4 * error
    assert not over.any() if keeps else over[-1]


@pytest.mark.parametrize("lot", [0, 5])
def test_a_cross_fit_is_calibrated_by_what_no_score_has_chosen(lot: int) -> None:
    paths = [f"train/good/{number}.png" for number in range(10)]
    paths += [f"{BATCH}/{number}.png" for number in range(30)]
    paths += [f"{BATCH}/+calibration/{number}.png" for number in range(lot)]
    settings = load_settings(None, {"calibrate.calibration": "crossfit"})
    split = split_nominal(paths, paths, [_digest(path) for path in paths], settings)
    assert (len(split.fit), len(split.holdout)) == (40 + lot, 0)
    assert split.calibrates.tolist() == [*range(10), *range(40, 40 + lot)]
    assert split.calibrating_groups == 10 + lot
