"""Groups: where they come from, and that whole ones are held out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.data.groups import assign_groups, find_groups, group_of_image, hold_out_groups
from reconpatch.errors import DataError, SettingsError

PATHS = ["train/good/A1_0.png", "train/good/A1_1.png", "train/good/B7_0.png"]


def test_by_default_each_image_is_its_own_group(tmp_path):
    assert assign_groups(PATHS, tmp_path) == (PATHS, [])


def test_a_pattern_captures_the_group(tmp_path):
    groups, strays = assign_groups(PATHS, tmp_path, r"/([A-Z]\d)_\d\.png$")
    assert groups == ["A1", "A1", "B7"]
    assert strays == []


def test_what_a_pattern_does_not_match_is_reported(tmp_path):
    groups, strays = assign_groups(PATHS, tmp_path, r"/(A\d)_")
    assert groups == ["A1", "A1", PATHS[2]]
    assert [stray.path for stray in strays] == [PATHS[2]]
    assert "data.group_pattern" in strays[0].reason


@pytest.mark.parametrize("pattern", ["(", "no capture", "(two)(captures)"])
def test_patterns_that_cannot_be_used(tmp_path, pattern):
    with pytest.raises(SettingsError, match=r"data\.group_pattern"):
        assign_groups(PATHS, tmp_path, pattern)


def test_a_pattern_that_would_search_for_years_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match=r"data\.group_pattern.* takes more than 1 s"):
        assign_groups(["a" * 60 + ".png"], tmp_path, r"^((?:a|aa)+)$")


def test_groups_csv_goes_before_the_pattern(tmp_path):
    (tmp_path / "groups.csv").write_text(
        "\ufeffpath,group\r\n" + "\r\n".join(f"{path},part {path[11:13]}" for path in PATHS), encoding="utf-8"
    )
    assert assign_groups(PATHS, tmp_path, "(0)") == (["part A1", "part A1", "part B7"], [])


def test_lines_without_image_and_images_without_line(tmp_path):
    (tmp_path / "groups.csv").write_text(f"path,group,who\n{PATHS[0]},p,x\ngone.png,q,x\n")
    groups, strays = assign_groups(PATHS[:2], tmp_path)
    assert groups == ["p", PATHS[1]]
    assert {stray.path: stray.reason.split(";")[0] for stray in strays} == {
        "gone.png": "is named in groups.csv, but is no image here",
        PATHS[1]: "has no line in groups.csv and is a group of its own",
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "needs a header"),
        (b"path,group\n", "a line or more"),
        (b"path;group\na.png;p\n", "separated by commas"),
        (b"path,group\na.png\n", "line 2 needs one path and one group"),
        (b"path,group\na.png,\n", "line 2 needs one path and one group"),
        (b"path,group\na.png,p,q\n", "line 2 needs one path and one group"),
        (b"path,group\na.png,p\na.png,q\n", "line 3 puts a.png into a second group"),
        (b'path,group\n"a.png,p\n', "cannot be read"),
        (b"path,group\n\xff.png,p\n", "UTF-8"),
    ],
)
def test_a_broken_groups_csv(tmp_path, text, reason):
    (tmp_path / "groups.csv").write_bytes(text)
    with pytest.raises(DataError, match=reason) as caught:
        assign_groups(PATHS, tmp_path)
    assert str(tmp_path / "groups.csv") in str(caught.value)


def test_of_a_broken_groups_csv_every_fault_is_told_and_the_sound_lines_are_used(tmp_path):
    lines = ["path,group", f"{PATHS[0]},p", f"{PATHS[1]}", f"{PATHS[0]},q", f"{PATHS[1]},p"]
    (tmp_path / "groups.csv").write_text("\n".join(lines))
    found = find_groups(PATHS, tmp_path)
    assert found.groups == ["p", "p", PATHS[2]]
    assert [stray.path for stray in found.strays] == [PATHS[2]]
    assert [fault.split(" ")[1] for fault in found.faults] == ["3", "4"]
    (tmp_path / "groups.csv").write_bytes(b"\xff")
    found = find_groups(PATHS, tmp_path)
    assert (found.groups, found.strays, len(found.faults)) == (PATHS, [], 1)


group_lists = st.lists(st.sampled_from("abcdefgh"), max_size=40)
shares = st.floats(0, 0.5)


@given(group_lists, shares, st.integers(0, 5))
def test_whole_groups_never_everything_never_more_than_needed_and_one_group(groups, share, seed):
    held = hold_out_groups(groups, share, seed)
    assert held.shape == (len(groups),)
    assert held.dtype == np.bool_
    chosen = {group for group, out in zip(groups, held, strict=True) if out}
    kept = {group for group, out in zip(groups, held, strict=True) if not out}
    assert not chosen & kept
    assert not groups or kept
    sizes = {group: groups.count(group) for group in groups}
    needed = np.ceil(share * len(groups) - 1e-9)
    if len(sizes) < 2 or needed == 0:
        assert not held.any()
    elif held.sum() < needed:  # only when the smallest group left would take more than half
        assert held.sum() + min(sizes[group] for group in kept) > len(groups) / 2
    else:
        assert held.sum() - needed < max(sizes[group] for group in chosen)
        assert held.sum() <= max(len(groups) / 2, needed)


@given(group_lists, shares, st.permutations(range(40)))
def test_the_order_of_the_rows_does_not_matter(groups, share, order):
    places = [place for place in order if place < len(groups)]
    held = hold_out_groups(groups, share, 3)
    np.testing.assert_array_equal(hold_out_groups([groups[p] for p in places], share, 3), held[places])


def test_single_images_are_held_out_to_the_share_exactly():
    groups = [f"{number}.png" for number in range(120)]
    assert hold_out_groups(groups, 0.15, 0).sum() == 18
    assert hold_out_groups(groups, 0.1, 0).sum() == 12
    assert not hold_out_groups(groups, 0, 0).any()


def test_the_seed_chooses():
    groups = [str(number) for number in range(50)]
    first = hold_out_groups(groups, 0.2, 0)
    np.testing.assert_array_equal(first, hold_out_groups(groups, 0.2, 0))
    assert (first != hold_out_groups(groups, 0.2, 1)).any()


def test_a_big_group_is_not_held_out_where_a_small_one_does():
    assert hold_out_groups(["big"] * 100 + ["small"] * 30, 0.15, 0).sum() == 30


def test_rather_too_few_than_nearly_everything():
    assert hold_out_groups(["big"] * 100 + ["small"] * 10, 0.15, 0).sum() == 10


def test_one_group_holds_out_nothing():
    assert not hold_out_groups(["only"] * 9, 0.3, 0).any()
    assert hold_out_groups([], 0.3, 0).shape == (0,)


@pytest.mark.parametrize("share", [-0.1, 0.51, float("nan")])
def test_shares_out_of_range(share):
    with pytest.raises(SettingsError, match=r"calibrate\.holdout"):
        hold_out_groups(["a", "b"], share, 0)


@pytest.mark.real_images
def test_magnetic_tile_holds_out_whole_tiles(real_images):
    root = real_images / "magnetic_tile" / "magnetic_tile"
    paths = sorted(str(path.relative_to(root)) for path in (root / "train").rglob("*.jpg"))
    groups, strays = assign_groups(paths, root)
    assert len(set(groups)) < len(paths)
    assert all(stray.path.startswith("test/") for stray in strays)
    held = hold_out_groups(groups, 0.15, 0)
    assert 105 <= held.sum() <= 105 + 6


def test_a_group_named_like_a_file_is_no_image_of_its_own(tmp_path):
    paths = ["cam1/p7.png", "cam2/p7.png", "p8.png"]
    assert assign_groups(paths, tmp_path, r"([^/]+)$")[0] == ["p7", "p7", "p8.png"]
    assert [group_of_image(path, "d", r"([^/]+)$") for path in paths] == ["p7", "p7", "p8.png"]


def test_whoever_shares_a_group_named_like_a_file_stays_in_it(tmp_path):
    lines = ["path,group", "p7.png,p7.png", "p7_b.png,p7.png", "q.png,q.png"]
    (tmp_path / "groups.csv").write_text("\n".join(lines) + "\n")
    for paths in (["p7.png", "p7_b.png", "q.png"], ["p7.png"], ["p7_b.png", "q.png"]):
        groups, _ = assign_groups(paths, tmp_path)
        assert groups == ["q.png" if path == "q.png" else "p7" for path in paths]
