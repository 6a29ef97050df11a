import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch.data.training_images import group_keys, group_of_content, training_images
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings


def _image(path, grey=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(path)


def test_a_category_gives_its_training_split_with_groups(tmp_path):
    for name in ("train/good/a.png", "train/good/b.png", "test/good/c.png", "test/hole/d.png"):
        _image(tmp_path / name)
    (tmp_path / "groups.csv").write_text("path,group\ntrain/good/a.png,part-1\ntrain/good/b.png,part-1\n")
    images = training_images(tmp_path, DataSettings())
    assert images.paths == (tmp_path / "train/good/a.png", tmp_path / "train/good/b.png")
    assert images.groups == ("part-1", "part-1")


def test_a_list_of_paths_is_a_group_each():
    images = training_images(["x/a.png", "x/b.png"], DataSettings())
    assert len(set(images.groups)) == 2


def test_a_manifest_gives_its_training_rows(tmp_path):
    table = pd.DataFrame(
        {"path": ["a.png", "b.png"], "split": ["train", "test"], "group": ["g", "h"], "problem": [None, None]}
    )
    table.attrs["root"] = str(tmp_path)
    assert training_images(table, DataSettings()).paths == (tmp_path / "a.png",)


def test_an_unreadable_manifest_row_is_named():
    table = pd.DataFrame({"path": ["a.png"], "split": ["train"], "group": ["g"], "problem": ["is cut short"]})
    with pytest.raises(DataError, match="attrs"):
        training_images(table, DataSettings())
    table.attrs["root"] = "somewhere"
    with pytest.raises(DataError, match=r"a\.png: is cut short"):
        training_images(table, DataSettings())


def test_nothing_to_fit_on(tmp_path):
    with pytest.raises(DataError, match="list of images is empty"):
        training_images([], DataSettings())
    _image(tmp_path / "test/good/c.png")
    with pytest.raises(DataError, match="no training image"):
        training_images(tmp_path, DataSettings())


def test_a_table_of_ones_own_without_a_needed_column():
    table = pd.DataFrame({"path": ["a.png"], "split": ["train"]})
    table.attrs["root"] = "somewhere"
    with pytest.raises(DataError, match="no column group, problem"):
        training_images(table, DataSettings())


def test_groups_that_share_an_image_are_one():
    pairs = [("d1", "a"), ("d1", "b"), ("d2", "b"), ("d3", "c"), ("d4", "d4")]
    assert group_of_content(pairs) == {"d1": "a", "d2": "a", "d3": "c", "d4": "d4"}


def test_one_part_before_several_cameras_is_one_group_wherever_the_images_lie(tmp_path):
    for number, name in enumerate(("train/good/cam1/p7.png", "train/good/cam2/p7.png")):
        _image(tmp_path / name, number)
    images = training_images(tmp_path, DataSettings(group_pattern=r"([^/]+)$"))
    assert len(set(group_keys(images.paths, images.groups, ["d1", "d2"]))) == 1


def test_a_region_of_a_part_of_the_list_is_not_used_silently(tmp_path, caplog):
    for name in ("nut/train/good/a.png", "nut/roi.png", "b.png"):
        _image(tmp_path / name)
    assert training_images([tmp_path / "nut"], DataSettings()).region == tmp_path / "nut/roi.png"
    assert not caplog.messages
    assert training_images([tmp_path / "nut", tmp_path / "b.png"], DataSettings()).region is None
    assert "roi.png is not used" in caplog.text
