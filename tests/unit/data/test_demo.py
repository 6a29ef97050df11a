"""The demonstration data set: complete, apart, the same bytes for the same seed, and frozen."""

import hashlib
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reconpatch.data.demo import IMAGE_SIDE, make_demo
from reconpatch.data.groups import hold_out_groups
from reconpatch.data.images import read_image, read_mask
from reconpatch.data.layouts import find_categories
from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "new"
    make_demo(root, categories=("brick", "gravel"))
    return root


@pytest.fixture(scope="module")
def brick(demo) -> pd.DataFrame:
    return build_manifest(demo / "brick", DataSettings())


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_categories_and_licence(demo):
    assert find_categories(demo) == ["brick", "gravel"]
    text = (demo / "README.txt").read_text(encoding="utf-8")
    assert "CC0 1.0" in text
    assert "scikit-image" in text
    assert sorted(path.name for path in demo.iterdir()) == ["README.txt", "brick", "gravel"]


def test_counts(brick):
    assert brick["problem"].isna().all()
    assert brick.attrs["strays"] == []
    counts = brick.groupby(["split", "defect_type"]).size().to_dict()
    assert counts == {
        ("train", "good"): 120,
        ("test", "good"): 20,
        ("test", "hole"): 8,
        ("test", "scratch"): 8,
        ("test", "stain"): 8,
        ("test", "swap"): 8,
        ("test", "warp"): 8,
    }
    assert set(zip(brick["width"], brick["height"], brick["mode"], strict=True)) == {
        (IMAGE_SIDE, IMAGE_SIDE, "L")
    }
    assert brick["sha256"].is_unique


def test_every_defect_has_a_mask_that_fits(brick):
    defects = brick[brick["label"] == 1]
    assert (defects["mask_width"] == IMAGE_SIDE).all()
    assert (defects["mask_height"] == IMAGE_SIDE).all()
    assert defects["mask_area"].between(0.0005, 0.3).all()
    assert brick.loc[brick["label"] == 0, "mask_path"].isna().all()


def test_train_and_test_share_no_region(brick):
    train = brick[brick["split"] == "train"]
    test = brick[brick["split"] == "test"]
    assert train["group"].nunique() == 12
    assert test.loc[test["label"] == 0, "group"].nunique() == 4
    assert test.loc[test["label"] == 1, "group"].nunique() == 4
    assert not set(train["group"]) & set(test["group"])
    assert hold_out_groups(train["group"].tolist(), 0.15, 0).sum() == 20


def test_masks_are_black_and_white(demo):
    path = demo / "brick" / "ground_truth" / "stain" / "000_mask.png"
    assert set(np.unique(read_image(path))) == {0, 255}
    np.testing.assert_array_equal(read_mask(path, 0), read_mask(path, 254))


def test_the_same_seed_gives_the_same_bytes_whatever_else_is_made(demo, tmp_path):
    make_demo(tmp_path, categories=("gravel",))
    assert contents(tmp_path / "gravel") == contents(demo / "gravel")


def test_another_seed_replaces_every_image(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("reconpatch.data.demo._TRAIN_IMAGES", 12)
    (tmp_path / "README.txt").write_bytes((demo / "README.txt").read_bytes())
    (tmp_path / "gravel").mkdir()
    (tmp_path / "gravel" / "old.png").touch()
    make_demo(tmp_path, categories=("gravel",), seed=1)
    first, other = contents(demo / "gravel"), contents(tmp_path / "gravel")
    assert len(other) == 12 + 20 + 2 * 40 + 1
    assert other.keys() <= first.keys()
    assert not [name for name in other if name != "groups.csv" and first[name] == other[name]]


def test_the_generator_is_frozen(demo):
    pixels = {
        name: hashlib.sha256(read_image(demo / name).tobytes()).hexdigest()[:16]
        for name in (
            "brick/train/good/000.png",
            "brick/test/warp/003.png",
            "brick/ground_truth/hole/001_mask.png",
            "gravel/test/good/007.png",
            "gravel/test/swap/005.png",
            "gravel/test/scratch/002.png",
        )
    }
    assert pixels == {
        "brick/train/good/000.png": "f492cb783d5637ca",
        "brick/test/warp/003.png": "cb59a9ebc0c9bffa",
        "brick/ground_truth/hole/001_mask.png": "428e7fb65698851c",
        "gravel/test/good/007.png": "fd8c2c62ffc77b4d",
        "gravel/test/swap/005.png": "2d9d4687782fbc68",
        "gravel/test/scratch/002.png": "e46a69e101875725",
    }


def test_folders_with_something_else_are_left_alone(tmp_path):
    (tmp_path / "brick").mkdir()
    (tmp_path / "brick" / "mine.png").touch()
    with pytest.raises(DataError, match="is not empty and no demonstration data set"):
        make_demo(tmp_path)
    assert contents(tmp_path) == {"brick/mine.png": b""}
    with pytest.raises(DataError, match="is not empty and no demonstration"):
        make_demo(tmp_path / "brick" / "mine.png")


def test_a_killed_call_leaves_nothing_that_the_next_one_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr("reconpatch.data.demo._TRAIN_IMAGES", 12)
    root = tmp_path / "new"
    script = (
        "import os, signal, sys; from pathlib import Path; from reconpatch.data import demo\n"
        "demo._save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "demo.make_demo(Path(sys.argv[1]), categories=('gravel',))"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path for path in root.iterdir() if path.name.startswith(".gravel.")]
    make_demo(root, categories=("gravel",))
    assert sorted(path.name for path in root.iterdir()) == ["README.txt", "gravel"]


def test_a_call_killed_at_its_first_file_is_taken_up(tmp_path, monkeypatch):
    monkeypatch.setattr("reconpatch.data.demo._TRAIN_IMAGES", 12)
    (tmp_path / ".README.txt.ab12").touch()
    make_demo(tmp_path, categories=("brick",))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.txt", "brick"]


def test_unknown_categories(tmp_path):
    with pytest.raises(DataError, match="demo category bricks: is unknown; choose from brick, grass, gravel"):
        make_demo(tmp_path / "new", categories=("brick", "bricks"))
    assert not (tmp_path / "new").exists()


def test_a_missing_photograph_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("reconpatch.data.demo.files", lambda package: tmp_path / package)
    with pytest.raises(DataError, match=r"skimage/data/brick.png: the installed scikit-image lacks"):
        make_demo(tmp_path / "new")
    assert not (tmp_path / "new" / "brick").exists()
