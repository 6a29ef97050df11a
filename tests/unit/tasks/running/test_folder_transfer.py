"""Folders go from machine to machine by content."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from reconpatch.errors import DataError
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import dump_json, sha256_json
from reconpatch.storage.object_store import Store
from tasks.running.content_hashes import Hasher
from tasks.running.folder_transfer import bring, bring_images, fetch, publish, send, send_images
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import Job


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_a_fetched_folder_is_the_published_one_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    store, hasher = Store((tmp_path / "share").as_uri()), Hasher(tmp_path)
    files = {"model/bank": b"vectors", "record.json": b"{}"}
    _write(tmp_path / "here", files)
    digest = publish(tmp_path / "here", store, hasher)
    _write(tmp_path / "there", {"record.json": b"old", "stray": b"x"})
    fetch(digest, tmp_path / "there", store, hasher)
    assert _files(tmp_path / "there") == files
    (tmp_path / "there" / "model" / "bank").unlink()
    (kept,) = (
        path for path in (tmp_path / "share").rglob("*") if path.is_file() and path.read_bytes() == b"vectors"
    )
    kept.write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        fetch(digest, tmp_path / "there", store, hasher)
    assert _files(tmp_path / "there") == {"record.json": b"{}"}
    kept.unlink()
    with pytest.raises(DataError, match="lacks"):
        fetch(digest, tmp_path / "there", store, hasher)


def test_a_listing_that_lost_a_line_is_refused(tmp_path: Path) -> None:
    store, hasher = Store((tmp_path / "share").as_uri()), Hasher(tmp_path)
    _write(tmp_path / "here", {"one": b"1", "two": b"2"})
    digest = publish(tmp_path / "here", store, hasher)
    tree = tmp_path / "share" / "trees" / digest
    for damaged in (dump_json({"one": json.loads(tree.read_text())["one"]}), "{", ""):
        tree.write_text(damaged)
        with pytest.raises(DataError, match=f"trees/{digest} is damaged"):
            fetch(digest, tmp_path / "there", store, hasher)
        assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("name", ["../../evil.txt", "/evil.txt", "model/../../evil.txt", ""])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    store = Store((tmp_path / "share").as_uri())
    content = hashlib.sha256(b"x").hexdigest()
    name = name if name != "/evil.txt" else str(tmp_path / "evil.txt")
    tree = {name: content, "one": content}
    store.put(f"files/{content[:2]}/{content}", b"x")
    store.put(f"trees/{sha256_json(tree)}", dump_json(tree).encode())
    with pytest.raises(DataError, match="outside"):
        fetch(sha256_json(tree), tmp_path / "project" / "outputs" / "model", store, Hasher(tmp_path))
    assert list(tmp_path.rglob("evil.txt")) == []
    assert list(tmp_path.rglob("one")) == []


@pytest.mark.parametrize("name", [".git/config", "model/.dvc/config", ".hidden"])
def test_a_hidden_name_is_refused_and_never_sent(tmp_path: Path, name: str) -> None:
    store, hasher = Store((tmp_path / "share").as_uri()), Hasher(tmp_path)
    content = hashlib.sha256(b"x").hexdigest()
    tree = {name: content}
    store.put(f"files/{content[:2]}/{content}", b"x")
    store.put(f"trees/{sha256_json(tree)}", dump_json(tree).encode())
    with pytest.raises(DataError, match="is hidden; find out who writes to the store"):
        fetch(sha256_json(tree), tmp_path / "there", store, hasher)
    assert not (tmp_path / "there").exists()

    _write(tmp_path / "here", {name: b"secret", "one": b"1"})
    digest = publish(tmp_path / "here", store, hasher)
    fetch(digest, tmp_path / "there", store, hasher)
    assert _files(tmp_path / "there") == {"one": b"1"}
    fetch(digest, tmp_path / "here", store, hasher)
    assert _files(tmp_path / "here") == {name: b"secret", "one": b"1"}


def test_a_machine_gets_images_and_stages_but_its_own_images_are_never_replaced(tmp_path: Path) -> None:
    share = (tmp_path / "share").as_uri()
    settings = load_settings(None, [f"pipeline.shared={share}", "pipeline.root=data"])
    here, there = (
        Job(settings, "brick", None, tmp_path / name, tmp_path / name / "outputs")
        for name in ("here", "there")
    )
    _write(here.images, {"a.png": b"a", "b.png": b"b"})
    digest = send_images(here)
    bring_images(there, digest)
    assert _files(there.images) == _files(here.images)
    (here.images / "a.png").unlink()
    _write(here.images, {"c.png": b"c"})
    bring_images(there, send_images(here))
    assert _files(there.images) == {"b.png": b"b", "c.png": b"c"}

    with pytest.raises(DataError, match="differs from the flow's images"):
        bring_images(here, digest)
    assert _files(here.images) == {"b.png": b"b", "c.png": b"c"}

    _write(here.folder("validate"), {"manifest.parquet": b"m"})
    sent = send(Finished("validate", here, here.folder("validate"), ran=True))
    bring([replace(sent, job=there, folder=there.folder("validate"))])
    assert _files(there.folder("validate")) == {"manifest.parquet": b"m"}
