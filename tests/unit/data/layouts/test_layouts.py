"""Where images lie: each layout, its masks, and what is left out with a reason."""

import os
from pathlib import Path

import pytest

from reconpatch.data.file_listing import links_to_nothing
from reconpatch.data.layouts import ImageFile, detect_layout, find_categories, find_strays, scan_category
from reconpatch.errors import DataError, SettingsError


def tree(root: Path, *paths: str) -> Path:
    """Empty files: layouts look at names alone."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def rows(root: Path, layout: str = "auto") -> list[tuple]:
    return [
        (image.path, image.split, image.label, image.defect_type, image.mask_path)
        for image in scan_category(root, layout)
    ]


def reasons(root: Path, layout: str = "auto") -> dict[str, str]:
    return {stray.path: stray.reason for stray in find_strays(root, layout)}


def test_mvtec(tmp_path):
    tree(tmp_path, "train/good/000.png", "train/good/001.png", "test/good/000.png", "test/crack/000.png")
    tree(tmp_path, "test/hole/000.png", "ground_truth/crack/000_mask.png", "ground_truth/hole/000_mask.png")
    tree(tmp_path, "license.txt", "readme.txt")
    assert detect_layout(tmp_path) == "mvtec"
    assert rows(tmp_path) == [
        ("test/crack/000.png", "test", 1, "crack", "ground_truth/crack/000_mask.png"),
        ("test/good/000.png", "test", 0, "good", None),
        ("test/hole/000.png", "test", 1, "hole", "ground_truth/hole/000_mask.png"),
        ("train/good/000.png", "train", 0, "good", None),
        ("train/good/001.png", "train", 0, "good", None),
    ]
    assert find_strays(tmp_path) == []


def test_btad_with_bmp_and_png_mixed(tmp_path):
    tree(tmp_path, "train/ok/0.bmp", "train/ok/1.png", "test/ok/7.bmp", "test/ko/0.bmp", "test/ko/1.png")
    tree(tmp_path, "ground_truth/ko/0.png", "ground_truth/ko/1.bmp")
    assert detect_layout(tmp_path) == "btad"
    assert rows(tmp_path) == [
        ("test/ko/0.bmp", "test", 1, "ko", "ground_truth/ko/0.png"),
        ("test/ko/1.png", "test", 1, "ko", "ground_truth/ko/1.bmp"),
        ("test/ok/7.bmp", "test", 0, "good", None),
        ("train/ok/0.bmp", "train", 0, "good", None),
        ("train/ok/1.png", "train", 0, "good", None),
    ]
    assert find_strays(tmp_path) == []


def test_folder_of_images_with_test_and_masks(tmp_path):
    tree(tmp_path, "a.jpg", "day 2/b.jpg", "test/OK/c.jpg", "test/dent/d.jpg", "masks/dent/d.png")
    tree(tmp_path, "groups.csv", "notes.txt")
    assert detect_layout(tmp_path) == "folder"
    assert rows(tmp_path) == [
        ("a.jpg", "train", 0, "good", None),
        ("day 2/b.jpg", "train", 0, "good", None),
        ("test/OK/c.jpg", "test", 0, "good", None),
        ("test/dent/d.jpg", "test", 1, "dent", "masks/dent/d.png"),
    ]
    assert find_strays(tmp_path) == []


def test_folder_with_good_and_test(tmp_path):
    tree(tmp_path, "good/a.jpg", "test/good/b.jpg", "test/dent/c.jpg", "overview.jpg")
    assert detect_layout(tmp_path) == "folder"
    assert [row[:3] for row in rows(tmp_path)] == [
        ("good/a.jpg", "train", 0),
        ("test/dent/c.jpg", "test", 1),
        ("test/good/b.jpg", "test", 0),
    ]
    assert "lies outside good and test" in reasons(tmp_path)["overview.jpg"]


@pytest.mark.parametrize(
    "paths", [["train/good/0.png"], ["test/good/0.png"], ["train/good/0.png", "test/good/1.png"]]
)
def test_a_category_without_any_defect(tmp_path, paths):
    tree(tmp_path, *paths)
    assert detect_layout(tmp_path) == "mvtec"
    assert [row[0] for row in rows(tmp_path)] == sorted(paths)
    assert {row[2] for row in rows(tmp_path)} == {0}


def test_a_layout_named_by_hand_wins(tmp_path):
    tree(tmp_path, "train/good/0.png", "train/ok/1.png")
    assert [row[0] for row in rows(tmp_path)] == ["train/good/0.png"]
    assert [row[0] for row in rows(tmp_path, "btad")] == ["train/ok/1.png"]
    assert [row[0] for row in rows(tmp_path, "folder")] == ["train/good/0.png", "train/ok/1.png"]


@pytest.mark.parametrize(
    "mask",
    [
        "ground_truth/cut/Teil_1_mask.png",
        "ground_truth/cut/Teil_1.tif",
        "ground_truth/cut/teil_1_GT.png",
        "ground_truth/cut/Teil_1_label.bmp",
        "masks/cut/Teil_1_ground_truth.png",
        "test/cut/Teil_1_label.bmp",
        "test/cut/Teil_1-mask.PNG",
    ],
)
def test_masks_by_every_name_in_use(tmp_path, mask):
    tree(tmp_path, "train/good/0.png", "test/cut/Teil_1.jpg", mask)
    assert rows(tmp_path)[0] == ("test/cut/Teil_1.jpg", "test", 1, "cut", mask)
    assert len(rows(tmp_path)) == 2
    assert find_strays(tmp_path) == []


def test_masks_of_nested_folders_stay_apart(tmp_path):
    tree(tmp_path, "train/good/0.png", "test/cut/a/1.png", "test/cut/b/1.png")
    tree(tmp_path, "ground_truth/cut/a/1_mask.png", "ground_truth/cut/b/1_mask.png")
    assert [row[4] for row in rows(tmp_path)[:2]] == [
        "ground_truth/cut/a/1_mask.png",
        "ground_truth/cut/b/1_mask.png",
    ]


def test_names_written_with_combining_accents_still_match(tmp_path):
    tree(
        tmp_path, "train/good/0.png", "test/cut/Pr\u00fcfling.png", "ground_truth/cut/Pru\u0308fling_mask.png"
    )
    assert rows(tmp_path)[0][4] == "ground_truth/cut/Pru\u0308fling_mask.png"


def test_masks_of_images_that_differ_in_case_alone_stay_apart(tmp_path):
    tree(tmp_path, "train/good/0.png", "test/cut/A.png", "test/cut/a.png", "test/cut/b.png", "test/cut/B.png")
    tree(
        tmp_path, "ground_truth/cut/A_mask.png", "ground_truth/cut/a_MASK.png", "ground_truth/cut/b_mask.png"
    )
    assert {row[0]: row[4] for row in rows(tmp_path) if row[1] == "test"} == {
        "test/cut/A.png": "ground_truth/cut/A_mask.png",
        "test/cut/a.png": "ground_truth/cut/a_MASK.png",
        "test/cut/b.png": "ground_truth/cut/b_mask.png",
        "test/cut/B.png": None,
    }


def test_a_mask_of_a_nominal_image_is_kept_visible(tmp_path):
    tree(tmp_path, "train/good/0.png", "test/good/0.png", "ground_truth/good/0_mask.png")
    assert rows(tmp_path)[0] == ("test/good/0.png", "test", 0, "good", "ground_truth/good/0_mask.png")
    assert rows(tmp_path)[1][4] is None


def test_what_no_image_stands_for_is_reported_once(tmp_path):
    tree(tmp_path, "train/good/0.png", "test/cut/1.png", "ground_truth/cut/1_mask.png")
    tree(tmp_path, "ground_truth/cut/1.png", "ground_truth/cut/2_mask.png", "ground_truth/cut/list.txt")
    tree(tmp_path, "train/good/Thumbs.db", "train/good/.DS_Store", "train/good/notes.txt", "train/bad/9.png")
    tree(tmp_path, "test/loose.png", "validation/good/3.png", ".git/x.png")
    assert [row[0] for row in rows(tmp_path)] == ["test/cut/1.png", "train/good/0.png"]
    found = find_strays(tmp_path)
    assert [stray.path for stray in found] == [
        "ground_truth/cut/1.png",
        "ground_truth/cut/2_mask.png",
        "ground_truth/cut/list.txt",
        "test/loose.png",
        "train/bad/9.png",
        "train/good/notes.txt",
        "validation/good/3.png",
    ]
    by_path = reasons(tmp_path)
    assert "second" in by_path["ground_truth/cut/1.png"]
    assert "no image by its ending" in by_path["train/good/notes.txt"]
    assert "test/<defect type>" in by_path["test/loose.png"]
    assert "lies outside train/good and test" in by_path["validation/good/3.png"]


def test_links_that_leave_the_category_are_not_read(tmp_path):
    outside = tree(tmp_path / "elsewhere", "a.png", "b_mask.png")
    root = tree(tmp_path / "category", "train/good/0.png", "test/cut/b.png")
    (root / "train/good/1.png").symlink_to(outside / "a.png")
    (root / "train/good/2.png").symlink_to("0.png")
    (root / "train/good/3.png").symlink_to("nowhere.png")
    (root / "train/more").symlink_to(outside)
    (root / "ground_truth/cut").mkdir(parents=True)
    (root / "ground_truth/cut/b_mask.png").symlink_to(outside / "b_mask.png")
    problems = {image.path: image.problem for image in scan_category(root)}
    assert problems["train/good/0.png"] is None
    assert problems["train/good/2.png"] is None
    assert "leaves the category" in problems["train/good/1.png"]
    assert "link to no file" in problems["train/good/3.png"]
    assert "its mask ground_truth/cut/b_mask.png is a link that leaves" in problems["test/cut/b.png"]
    assert "link to a folder out of the category" in reasons(root)["train/more"]


def test_a_category_that_is_itself_a_link_is_fine(tmp_path):
    tree(tmp_path / "real", "train/good/0.png")
    (tmp_path / "bottle").symlink_to(tmp_path / "real")
    assert [row[0] for row in rows(tmp_path / "bottle")] == ["train/good/0.png"]
    assert scan_category(tmp_path / "bottle")[0].problem is None


def test_a_link_to_itself_ends(tmp_path):
    tree(tmp_path, "train/good/0.png")
    (tmp_path / "train/good/again").symlink_to(tmp_path)
    assert len(rows(tmp_path)) == 1
    assert "link to a folder;" in reasons(tmp_path)["train/good/again"]


def test_a_link_that_leads_to_itself_is_named_and_the_rest_is_read(tmp_path):
    tree(tmp_path, "train/good/0.png", "ground_truth/crack/1.png", "test/crack/1.png")
    for name in ("train/good/self.png", "train/good/self", "test/crack/self.png", ".self"):
        (tmp_path / name).symlink_to(Path(name).name)
    (tmp_path / "train/good/one.png").symlink_to("other.png")
    (tmp_path / "train/good/other.png").symlink_to("one.png")
    why = "is a link to no file; put the file itself there"
    assert {image.path: image.problem for image in scan_category(tmp_path)} == {
        "test/crack/1.png": None, "test/crack/self.png": why, "train/good/0.png": None,
        "train/good/one.png": why, "train/good/other.png": why, "train/good/self.png": why,
    }  # fmt: skip
    assert "no image by its ending" in reasons(tmp_path)["train/good/self"]
    assert [path.name for path in links_to_nothing(tmp_path)] == [
        ".self", "self.png", "one.png", "other.png", "self", "self.png"
    ]  # fmt: skip


def test_a_training_folder_that_leads_away_is_explained(tmp_path):
    tree(tmp_path / "elsewhere", "0.png")
    (tmp_path / "bottle/train").mkdir(parents=True)
    (tmp_path / "bottle/train/good").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no image .*train/good is a link to a folder out of the category"):
        scan_category(tmp_path / "bottle")


def test_special_files_and_names_that_are_no_text_are_strays(tmp_path):
    tree(tmp_path, "train/good/0.png")
    os.mkfifo(tmp_path / "train/good/1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/train/good/\xff.png")).touch()
    assert reasons(tmp_path) == {
        "train/good/1.png": "is neither a file nor a folder; remove it",
        "train/good/\\udcff.png": "has a name that is not UTF-8; rename it",
    }


def test_names_with_control_characters_are_strays_however_deep(tmp_path):
    tree(tmp_path, "train/good/a.png", "train/good/cr\rx.png", "train/good/b\n.png", "train/good/del\x7f.png")
    tree(tmp_path, "train/good/tab\t/c.png", "test/cra\u2028ck/d.png", "test/\x1b[31m/e.png")
    assert [row[0] for row in rows(tmp_path)] == ["train/good/a.png"]
    why = "has a name that holds control characters; rename it"
    assert reasons(tmp_path) == {
        "train/good/cr\\rx.png": why,
        "train/good/b\\n.png": why,
        "train/good/del\\x7f.png": why,
        "train/good/tab\\t": why,
        "test/cra\\u2028ck": why,
        "test/\\x1b[31m": why,
    }


def test_an_empty_category(tmp_path):
    (tmp_path / "train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image of layout auto"):
        scan_category(tmp_path)
    assert find_strays(tmp_path) == []


def test_nothing_fits(tmp_path):
    with pytest.raises(DataError, match=r"is no category: it needs train/good"):
        detect_layout(tmp_path)
    tree(tmp_path, "bottle/train/good/0.png", "cable/train/good/0.png", "docs/readme.txt")
    with pytest.raises(DataError, match=r"give one of them: bottle, cable$"):
        scan_category(tmp_path)


def test_a_path_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for call in (detect_layout, scan_category, find_categories, find_strays):
        with pytest.raises(DataError, match="no such folder"):
            call(tmp_path / "missing")
        with pytest.raises(DataError, match="is a file"):
            call(tmp_path / "file")


def test_unknown_layout(tmp_path):
    tree(tmp_path, "train/good/0.png")
    with pytest.raises(SettingsError, match=r"data\.layout: mvtek is unknown"):
        scan_category(tmp_path, "mvtek")


def test_find_categories_is_sorted_and_leaves_the_rest(tmp_path):
    tree(tmp_path, "zipper/train/good/0.png", "02/train/ok/0.bmp", "parts/0.png", "docs/a.txt", "logo.png")
    tree(tmp_path, ".cache/train/good/0.png")
    assert find_categories(tmp_path) == ["02", "parts", "zipper"]


def test_find_categories_where_there_are_none(tmp_path):
    with pytest.raises(DataError, match="holds no category"):
        find_categories(tmp_path)
    tree(tmp_path, "train/good/0.png")
    with pytest.raises(DataError, match="is itself a category"):
        find_categories(tmp_path)


def test_folders_without_permission(tmp_path, monkeypatch):
    tree(tmp_path, "bottle/train/good/0.png", "lost+found/0.png")
    real = Path.iterdir

    def iterdir(path: Path):
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert find_categories(tmp_path) == ["bottle"]
    monkeypatch.setattr(os, "access", lambda path, _: "bottle" not in str(path))
    with pytest.raises(DataError, match="bottle: cannot be listed"):
        scan_category(tmp_path / "bottle")


@pytest.mark.real_images
def test_magnetic_tile_is_read_right(real_images):
    images = scan_category(real_images / "magnetic_tile" / "magnetic_tile")
    assert sum(image.split == "train" for image in images) == 699
    assert sum(image.split == "test" and image.label == 0 for image in images) == 253
    defects = [image for image in images if image.label == 1]
    assert len(defects) == 392
    assert all(isinstance(image, ImageFile) and image.mask_path for image in defects)
    assert find_strays(real_images / "magnetic_tile" / "magnetic_tile") == []
