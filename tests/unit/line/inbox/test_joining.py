"""Batches join a category whole, with their groups, wherever its disk is and whoever else joins."""

import csv
import errno
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import forked
from PIL import Image
from waiting import PATIENCE

from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError
from reconpatch.line.inbox import joining
from reconpatch.line.inbox.arrivals import read_inbox
from reconpatch.line.inbox.join_plan import JoinPlan, make_plan
from reconpatch.line.inbox.joining import carry_out, check_writable
from reconpatch.settings import DataSettings


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("L", (8, 8), sum(name.encode()) % 256).save(folder / f"{name}.png")


def write_groups(folder: Path, **groups: str) -> None:
    rows = [["path", "group"], *([f"{name}.png", group] for name, group in groups.items())]
    with (folder / "groups.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def read_groups(root: Path) -> list[list[str]]:
    with (root / "groups.csv").open(newline="") as stream:
        return list(csv.reader(stream))


def plan_of(inbox: Path, root: Path, settings: DataSettings) -> JoinPlan:
    arrivals = read_inbox(inbox, root, settings)
    return make_plan(arrivals, [None] * len(arrivals), ("train", "good"), None)


def test_groups_of_the_inbox_make_a_table_where_the_category_has_none(tmp_path: Path) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    settings = DataSettings(group_pattern=r"part(\d+)_")
    pictures(root / "train/good", "part1_a", "part1_b", "x")
    pictures(root / "test/good", "part2_a")
    pictures(inbox, "n0", "n1", "n2", "part1_c")
    write_groups(inbox, n0="lot1", n1="lot1", n2="lot2")
    before = build_manifest(root, settings).set_index("path")["group"].to_dict()
    plan = plan_of(inbox, root, settings)
    carry_out(plan, root, tmp_path / "quarantine", settings)
    table = build_manifest(root, settings)
    joined = {"n0": "lot1", "n1": "lot1", "n2": "lot2", "part1_c": "1"}
    expected = before | {f"{plan.folder}/{name}.png": group for name, group in joined.items()}
    assert table.set_index("path")["group"].to_dict() == expected
    assert table.attrs["strays"] == []


def test_a_table_with_a_bare_carriage_return_is_read_and_written_anew_by_the_next_batch(
    tmp_path: Path,
) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "a")
    # As an earlier release wrote it for an image cr\rx.png.
    (root / "groups.csv").write_bytes(b"path,group\ntrain/good/a.png,lot\r1\ntrain/good/cr\rx.png,lot2\n")
    pictures(inbox, "b")
    (inbox / "groups.csv").write_bytes(b"path,group\nb.png,=lot\n")
    build_manifest(root, DataSettings())
    plan = plan_of(inbox, root, DataSettings())
    carry_out(plan, root, tmp_path / "quarantine")
    table = build_manifest(root, DataSettings())
    joined = f"{plan.folder}/b.png"
    assert table.set_index("path")["group"].to_dict() == {"train/good/a.png": "lot\r1", joined: "=lot"}
    assert read_groups(root)[1:] == [
        ["train/good/a.png", "lot\r1"], ["train/good/cr\rx.png", "lot2"], [joined, "'=lot"]
    ]  # fmt: skip


def test_a_table_made_for_a_batch_that_cannot_join_goes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "a")
    pictures(inbox, "b")
    write_groups(inbox, b="lot1")
    monkeypatch.setattr(Path, "rename", _refuse)
    with pytest.raises(OSError, match="no"):
        carry_out(plan_of(inbox, root, DataSettings()), root, tmp_path / "quarantine")
    assert not (root / "groups.csv").exists()


@pytest.mark.parametrize("pattern", [None, r"part(\d+)_", "good/([^/]+)/"])
def test_what_the_pattern_tells_needs_no_table(tmp_path: Path, pattern: str | None) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "part1_a")
    pictures(inbox, "part1_b", "part2_a", "x")
    settings = DataSettings(group_pattern=pattern)
    carry_out(plan_of(inbox, root, settings), root, tmp_path / "quarantine", settings)
    assert not (root / "groups.csv").exists()


@pytest.mark.parametrize("depth", ["data set", "category"])
def test_the_data_set_or_a_category_may_lie_on_another_disk(
    other_disk: Path, tmp_path: Path, depth: str
) -> None:
    root = tmp_path / "data/toy/nut"
    # The category's folder lies directly in its disk, as a mounted one would.
    link, real = (root.parent, other_disk / "toy") if depth == "data set" else (root, other_disk)
    real.mkdir(exist_ok=True)
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    pictures(root / "train/good", "a")
    write_groups(root, **{"train/good/a": "p1"})
    pictures(tmp_path / "inbox", "b")
    plan = plan_of(tmp_path / "inbox", root, DataSettings())
    carry_out(plan, root, tmp_path / "quarantine")
    path = f"{plan.folder}/b.png"
    assert (root / path).is_file()
    assert read_groups(root)[1:] == [["train/good/a.png", "p1"], [path, path]]
    assert not list((tmp_path / "inbox").iterdir())
    assert not [
        *root.rglob(".*"),
        *root.parent.resolve().glob(".*toy*"),
        *other_disk.parent.glob(".*arrivals"),
    ]


def protect(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Nothing can be made in these folders; the tests may run as root, whom no permission stops."""
    make = os.mkdir

    def refuse(path: str | Path, *given: object, **named: object) -> None:
        if Path(path).parent in folders:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        make(path, *given, **named)

    monkeypatch.setattr(os, "mkdir", refuse)


def test_the_folder_above_the_data_set_need_not_be_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "a")
    pictures(inbox, "b", "c")
    protect(monkeypatch, root.parent.parent)
    plan = plan_of(inbox, root, DataSettings())
    check_writable(plan, root)
    carry_out(plan, root, tmp_path / "quarantine")
    assert sorted(path.name for path in (root / plan.folder).iterdir()) == ["b.png", "c.png"]
    assert not list(inbox.iterdir())
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("place", ["train/good", "."])
def test_a_data_set_that_cannot_be_written_is_named_before_anything_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "a")
    pictures(inbox, "b")
    write_groups(inbox, b="lot1")  # so that the category needs a groups.csv too
    plan = plan_of(inbox, root, DataSettings())
    protect(monkeypatch, root / place)
    with pytest.raises(DataError, match=r"cannot be written \(Perm.*right to write") as refused:
        check_writable(plan, root)
    assert str(refused.value).startswith(f"{root / place}: ")
    assert sorted(path.name for path in root.rglob("*")) == ["a.png", "good", "train"]
    assert (inbox / "b.png").is_file()


def test_a_batch_that_cannot_join_leaves_nothing_and_joins_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, inbox = tmp_path / "data/toy/nut", tmp_path / "inbox"
    pictures(root / "train/good", "a")
    write_groups(root, **{"train/good/a": "p1"})
    pictures(inbox, "b")
    plan = plan_of(inbox, root, DataSettings())
    before = read_groups(root)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", _refuse)
        for _ in range(2):
            with pytest.raises(OSError, match="no"):
                carry_out(plan, root, tmp_path / "quarantine")
            assert read_groups(root) == before
            assert not list((tmp_path / "data").glob(".*"))

    _in_a_process(lambda: _carry_out_until_killed(plan, root, tmp_path / "quarantine"))
    assert len(read_groups(root)) == 3
    assert list((tmp_path / "data").glob(".*"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", _refuse)
        with pytest.raises(OSError, match="no"):
            carry_out(plan, root, tmp_path / "quarantine")
    assert read_groups(root) == before

    carry_out(plan, root, tmp_path / "quarantine")
    path = f"{plan.folder}/b.png"
    assert read_groups(root) == [*before, [path, path]]
    assert [file.name for file in root.rglob("*.png")] == ["a.png", "b.png"]
    assert not list(inbox.iterdir())


def _refuse(*_: object) -> None:
    raise OSError("no")


def _carry_out_until_killed(plan: JoinPlan, root: Path, quarantine: Path) -> None:
    Path.rename = lambda *_: os._exit(0)  # in a process of its own
    carry_out(plan, root, quarantine)


def _in_a_process(work: Callable[[], None]) -> None:
    assert forked(work)() == 0


def test_two_categories_join_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = {}
    for category in ("nut", "bolt"):
        root = tmp_path / "data/toy" / category
        pictures(root / "train/good", "a")
        pictures(tmp_path / "inbox" / category, "b", "c")
        plans[root] = plan_of(tmp_path / "inbox" / category, root, DataSettings())
    (slow, first), (fast, second) = plans.items()
    context = multiprocessing.get_context("fork")
    copied, go_on = context.Event(), context.Event()
    copy = joining._copy

    def wait(source: Path, target: Path) -> None:
        copy(source, target)
        copied.set()
        assert go_on.wait(PATIENCE)

    with monkeypatch.context() as patched:
        patched.setattr(joining, "_copy", wait)
        ended = forked(lambda: carry_out(first, slow, tmp_path / "quarantine"))
    assert copied.wait(PATIENCE)
    carry_out(second, fast, tmp_path / "quarantine")
    go_on.set()
    assert ended() == 0
    for root, plan in plans.items():
        assert {path.name for path in (root / plan.folder).iterdir()} == {"b.png", "c.png"}
    assert not list((tmp_path / "inbox").rglob("*.png"))
