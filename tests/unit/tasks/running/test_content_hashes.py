import os
from pathlib import Path

from reconpatch.storage.atomic_files import sha256_file
from tasks.running.content_hashes import Hasher


def test_a_tree_lists_every_file_but_compiled_code(tmp_path: Path) -> None:
    (tmp_path / "code" / "sub" / "__pycache__").mkdir(parents=True)
    (tmp_path / "code" / "a.py").write_text("a")
    (tmp_path / "code" / "sub" / "b.py").write_text("b")
    (tmp_path / "code" / "sub" / "__pycache__" / "b.pyc").write_text("x")
    tree = Hasher(tmp_path).tree(tmp_path / "code")
    assert tree == {name: sha256_file(tmp_path / "code" / name) for name in ("a.py", "sub/b.py")}


def test_a_digest_changes_with_content_and_with_names(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("1")
    seen = [Hasher(tmp_path).digest(folder)]
    (folder / "a").write_text("2")
    seen.append(Hasher(tmp_path).digest(folder))
    (folder / "a").rename(folder / "b")
    seen.append(Hasher(tmp_path).digest(folder))
    assert len(set(seen)) == 3


def test_a_settled_file_is_read_once_and_again_when_it_changes(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "image"
    path.write_text("one")
    monkeypatch.setattr("tasks.running.content_hashes._SETTLED_SECONDS", -1)
    first = Hasher(tmp_path)
    digest = first.file(path)
    first.remember()

    def refuse(_path: Path) -> str:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.running.content_hashes.sha256_file", refuse)
        assert Hasher(tmp_path).file(path) == digest
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert Hasher(tmp_path).file(path) == sha256_file(path) != digest


def test_a_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_text("one")
    hasher = Hasher(tmp_path)
    hasher.file(path)
    hasher.remember()
    assert not (tmp_path / ".cache").exists()


def test_a_spoilt_memory_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "hashes.json").write_text("{ half")
    path = tmp_path / "image"
    path.write_text("one")
    assert Hasher(tmp_path).file(path) == sha256_file(path)
