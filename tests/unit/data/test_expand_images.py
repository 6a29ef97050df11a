import os

import pytest

from reconpatch.data.file_listing import expand_images
from reconpatch.errors import DataError


def test_folders_are_expanded_in_place_and_sorted(tmp_path):
    for name in ("d/b.png", "d/deep/a.JPG", "d/note.txt", "d/.hidden.png", "z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = expand_images([tmp_path / "z.png", tmp_path / "d"])
    assert found == [tmp_path / "z.png", tmp_path / "d/b.png", tmp_path / "d/deep/a.JPG"]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        expand_images([tmp_path / "absent.png"])
    with pytest.raises(DataError, match="holds no image"):
        expand_images([tmp_path])


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secret.png").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="leaves"):
        expand_images([tmp_path / "d"])


def test_what_would_be_left_out_unseen_is_refused(tmp_path):
    folder = tmp_path / "d"
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir()
    (folder / "a.png").touch()
    (folder / "cam2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"cam2: is a link to a folder out of"):
        expand_images([folder])
    (folder / "cam2").unlink()
    (folder / ".hidden").mkdir()
    (folder / "cam3").symlink_to(folder / ".hidden")
    with pytest.raises(DataError, match=r"cam3: is a link to a folder; put"):
        expand_images([folder])
    (folder / "cam3").unlink()
    (folder / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(DataError, match=r"caf\\udce9\.png: has a name that is not UTF-8"):
        expand_images([folder])


def test_a_link_to_a_folder_that_is_listed_anyway_is_passed_over(tmp_path):
    (tmp_path / "monday").mkdir()
    (tmp_path / "monday/a.png").touch()
    (tmp_path / "latest").symlink_to(tmp_path / "monday")
    assert expand_images([tmp_path]) == [tmp_path / "monday/a.png"]
