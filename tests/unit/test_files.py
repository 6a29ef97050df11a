import fcntl
import json

import pytest

from reconpatch.files import (
    atomic_file,
    atomic_folder,
    dump_json,
    file_lock,
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
    for name in (".a.killed", ".a.killed.old", "a", ".ab.killed"):
        (tmp_path / name).mkdir()
    (tmp_path / ".a.lock").touch()
    remove_abandoned(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.lock", ".ab.killed", "a"]


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


def test_a_lock_keeps_others_out_for_the_block_alone(tmp_path):
    path = tmp_path / "deep" / "a.lock"
    with file_lock(path), path.open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_an_impatient_lock_is_refused_while_another_holds_it(tmp_path):
    path = tmp_path / "a.lock"
    with (
        file_lock(path),
        pytest.raises(TimeoutError, match=r"a\.lock: another process"),
        file_lock(path, 0.1),
    ):
        pass
    with file_lock(path, 0.1):
        pass
