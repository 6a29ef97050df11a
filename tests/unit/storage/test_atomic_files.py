import json
import multiprocessing
import os
from functools import partial
from pathlib import Path

import pytest
from forked import forked

from reconpatch.errors import SettingsError
from reconpatch.storage import atomic_files
from reconpatch.storage.atomic_files import (
    atomic_file,
    atomic_folder,
    dump_json,
    remove_abandoned,
    sha256_file,
    sha256_json,
    write_json,
)


def _fail_half_way(context, write):
    with context as temporary:
        write(temporary)
        raise RuntimeError


def test_file_is_complete_or_absent(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    with pytest.raises(RuntimeError):
        _fail_half_way(atomic_file(target), lambda path: path.write_text("half"))
    assert list(target.parent.iterdir()) == []
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError):
        _fail_half_way(atomic_file(target), lambda path: path.write_text("half"))
    assert target.read_text() == "old"


def test_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "model"
    for names in (["a", "b"], ["b", "c"]):
        with atomic_folder(target) as temporary:
            for name in names:
                (temporary / name).write_text(name)
    assert sorted(path.name for path in target.iterdir()) == ["b", "c"]
    assert list(tmp_path.iterdir()) == [target]


def test_failed_folder_keeps_the_old_one(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as temporary:
        (temporary / "a").write_text("a")
    with pytest.raises(RuntimeError):
        _fail_half_way(atomic_folder(target), lambda path: (path / "b").write_text("b"))
    assert [path.name for path in target.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    target = tmp_path / "a[1]"
    target.mkdir()
    (tmp_path / ".a[1].lock").touch()
    (tmp_path / ".a[1].notes").mkdir()
    with atomic_folder(target) as killed, atomic_folder(tmp_path / "a[1].b") as other:
        killed.with_suffix(".old").mkdir()
        remove_abandoned(target)
        assert not killed.exists()
        assert other.exists()
        killed.mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".a[1].lock", ".a[1].notes", "a[1]", "a[1].b"]


def _write_often(target, name, barrier):
    barrier.wait()
    for _ in range(100):
        with atomic_folder(target) as temporary:
            for part in "xy":
                (temporary / part).write_text(name)


def test_writers_at_the_same_time_leave_the_folder_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic_files, "_sync", lambda _: None)  # which would keep them apart
    barrier = multiprocessing.get_context("fork").Barrier(3)
    writers = [forked(partial(_write_often, tmp_path / "a", n, barrier)) for n in "123"]
    assert [ended() for ended in writers] == [0, 0, 0]
    assert (tmp_path / "a/x").read_text() == (tmp_path / "a/y").read_text()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_folder_that_another_writer_moves_aside_after_a_look_is_no_file(tmp_path, monkeypatch):
    folder, aside, look = tmp_path / "a", tmp_path / "aside", os.stat
    folder.mkdir()

    def look_then_move(path, **options):
        found = look(path, **options)
        if path == folder and not aside.exists():
            folder.rename(aside)
        return found

    monkeypatch.setattr(os, "stat", look_then_move)
    with atomic_folder(folder) as temporary:
        (temporary / "x").touch()
    assert (folder / "x").is_file()
    assert aside.is_dir()


def test_a_folder_is_written_through_a_link(tmp_path):
    (tmp_path / "far" / "old").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    link = tmp_path / "near" / "model"
    link.symlink_to(tmp_path / "far" / "old")
    for name in "ab":
        with atomic_folder(link) as temporary:
            (temporary / name).touch()
    assert link.is_symlink()
    assert list(link.parent.iterdir()) == [link]
    assert list((tmp_path / "far").rglob("*")) == [tmp_path / "far/old", tmp_path / "far/old/b"]


@pytest.mark.parametrize("path", ["", ".", "..", "../work", "file"])
def test_what_cannot_be_replaced_is_refused(tmp_path, monkeypatch, path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "file").touch()
    monkeypatch.chdir(work)
    with pytest.raises(SettingsError, match=r"give another"), atomic_folder(Path(path)):
        pass
    assert list(tmp_path.rglob("*")) == [work, work / "file"]


def test_digests(tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    assert sha256_file(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})


def test_json_refuses_nan_and_round_trips(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        dump_json({"a": float("nan")})
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"ü": [1, None]}
