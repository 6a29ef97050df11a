"""Fit, calibration and test share no content and no group."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconpatch import ReConPatch
from reconpatch.data.groups import join_groups
from reconpatch.data.manifest import build_manifest
from reconpatch.data.nominal_split import split_nominal
from reconpatch.data.training_images import TrainingSet, group_keys, union
from reconpatch.errors import DataError
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.leak_check import check_disjoint
from reconpatch.settings import load_settings


def test_images_of_one_content_join_their_groups():
    assert join_groups(["b", "a", "c", "d", "d"], ["1", "2", "1", "3", "2"]) == ["b", "a", "b", "a", "a"]
    assert join_groups(["x", "y"], ["1", "2"]) == ["x", "y"]


@pytest.mark.parametrize("seed", range(20))
def test_no_content_and_no_group_fits_and_calibrates(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 30, 60).astype(str).tolist()
    digests = rng.integers(0, 50, 60).astype(str).tolist()
    paths = [f"{number}.png" for number in range(60)]
    for number in rng.permutation(60)[:30]:  # half of them have arrived since, some in the calibration lot
        paths[number] = f"arrivals-0123456789ab/{'' if number % 5 else '+calibration/'}{number}.png"
    settings = load_settings(None, {"seed": seed, "calibrate.holdout": 0.3})
    split = split_nominal(paths, groups, digests, settings)
    assert split.holdout.size
    for values in (groups, digests):
        assert not {values[i] for i in split.fit} & {values[i] for i in split.holdout}
    assert sorted([*split.fit, *split.holdout]) == list(range(60))


def test_a_fitted_detector_remembers_disjoint_groups_and_its_test_set_is_disjoint_too(category):
    (category / "groups.csv").write_text(
        "path,group\n" + "".join(f"train/good/{n:02}.png,part{n // 2}\n" for n in range(12))
    )
    params = {"features.image_size": 64, "modulation.enabled": False, "calibrate.holdout": 0.4, "threads": 1}
    detector = ReConPatch(params=params).fit(category)
    known = detector.training_set
    assert (len(known), detector.calibration.threshold.n) == (12, 3)
    assert len(set(known.fit_groups) | set(known.holdout_groups)) == 6
    assert not set(known.fit_groups) & set(known.holdout_groups)
    assert not set(known.fit) & set(known.holdout)
    table = build_manifest(category, detector.settings.data)
    check_disjoint(table[table["split"] == "test"], known)
    for part in (known.fit, known.holdout):  # a test image of a known content, whatever its name
        seen = table[table["sha256"].isin(part)].iloc[:1]
        with pytest.raises(DataError, match="same content as training images"):
            check_disjoint(seen, known)
    frame = table[table["split"] == "test"].iloc[:1].assign(group="part3")
    with pytest.raises(DataError, match=r"1 test image.* same group .*test/dent/00\.png"):
        check_disjoint(frame, known)


def test_evaluation_refuses_a_training_image_among_the_test_images(category, detector, settings):
    shutil.copy(category / "train/good/03.png", category / "test/good/new-name.png")
    with pytest.raises(DataError, match=r"test/good/new-name\.png.*flatter"):
        evaluate(detector, build_manifest(category, settings.data), settings)


def test_group_names_give_no_path_away_and_travel():
    keys = group_keys(
        [Path("/a/train/good/0.png"), Path("x/train/good/0.png"), Path("1.png"), Path("2.png")],
        ["train/good/0.png", "train/good/0.png", "part 7", "part 7"],
        ["d0", "d1", "d2", "d3"],
    )
    assert keys[:2] == ["d0", "d1"]
    assert keys[2] == keys[3]
    assert "part" not in keys[2]


def test_images_without_named_groups_are_groups_of_their_own():
    known = TrainingSet(("a",), ("b",))
    assert known.fit_pairs == [("a", "a")]
    assert known.holdout_pairs == [("b", "b")]


@pytest.mark.parametrize("joined", [False, True])
def test_a_detector_of_several_categories_knows_their_groups(joined):
    known = union({"brick": TrainingSet(("a",), (), 0, tuple(group_keys([Path("1.png")], ["part3"], ["a"])))})
    row = {"path": "test/good/1.png", "group": "part3", "sha256": "b", "category": "brick"}
    if joined:
        row |= {"path": "brick/test/good/1.png", "group": "brick/part3"}
    with pytest.raises(DataError, match=r"1 test image.* same group"):
        check_disjoint(pd.DataFrame([row]), known)
    # A group of another category is another one, whatever its name.
    check_disjoint(pd.DataFrame([row | {"category": "wood", "group": "part3"}]), known)
