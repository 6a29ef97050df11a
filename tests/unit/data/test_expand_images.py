import pytest

from reconpatch.data.listing import expand_images
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
