"""A manifest that is built again reads only what changed, and is the same table."""

import os
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from reconpatch.data import probe_cache
from reconpatch.data.manifest import build_manifest
from reconpatch.settings import DataSettings

SETTINGS = DataSettings()


@pytest.fixture
def category(tmp_path, monkeypatch):
    """Three nominal images and a defect with a mask, and a clock by which they are not new."""
    root = tmp_path / "bottle"
    random = np.random.default_rng(0)
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/crack/0", "ground_truth/crack/0_mask"):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (6, 8), dtype=np.uint8)).save(path)
    now = time.time
    monkeypatch.setattr(probe_cache.time, "time", lambda: now() + 10)
    return root


def test_unchanged_files_are_not_read_again_and_the_table_is_the_same(category, tmp_path, looked_at):
    first = build_manifest(category, SETTINGS, cache=tmp_path / "c" / "seen.json")
    assert len(looked_at) == 5
    again = build_manifest(category, SETTINGS, cache=tmp_path / "c" / "seen.json")
    assert len(looked_at) == 5
    pd.testing.assert_frame_equal(first, again)
    assert first.attrs == again.attrs


@pytest.mark.parametrize("keep_time", [False, True], ids=["other time", "same time and size"])
def test_a_changed_file_is_read_again_and_no_other(category, tmp_path, looked_at, keep_time):
    build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    looked_at.clear()
    path = category / "train/good/1.png"
    stat, size = path.stat(), path.stat().st_size
    while True:  # another image whose file is as long
        pixels = np.random.default_rng().integers(0, 256, (6, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if path.stat().st_size == size:
            break
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    again = build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    assert [path.name for path in looked_at] == ["1.png"]
    pd.testing.assert_frame_equal(again, build_manifest(category, SETTINGS))


def test_added_removed_and_broken_files(category, tmp_path, looked_at):
    cache = tmp_path / "seen.json"
    build_manifest(category, SETTINGS, cache=cache)
    (category / "train/good/2.png").rename(category / "train/good/3.png")
    (category / "train/good/0.png").unlink()
    (category / "train/good/1.png").write_bytes(b"")
    for _ in range(2):
        table = build_manifest(category, SETTINGS, cache=cache)
        pd.testing.assert_frame_equal(table, build_manifest(category, SETTINGS))
    looked_at.clear()
    build_manifest(category, SETTINGS, cache=cache)
    assert [path.name for path in looked_at] == []
    assert "good/0.png" not in cache.read_text()


def test_another_threshold_reads_the_masks_again(category, tmp_path, looked_at):
    build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    looked_at.clear()
    other = DataSettings(mask_threshold=10)
    table = build_manifest(category, other, cache=tmp_path / "seen.json")
    assert [path.name for path in looked_at] == ["0_mask.png"]
    pd.testing.assert_frame_equal(table, build_manifest(category, other))


def test_what_other_code_saw_is_void(category, tmp_path, looked_at, monkeypatch):
    build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    monkeypatch.setattr(probe_cache, "_code", lambda: "other")
    build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    assert len(looked_at) == 10


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"code": 1}', "\x00"])
def test_a_damaged_memory_is_no_memory(category, tmp_path, content):
    (tmp_path / "seen.json").write_text(content)
    table = build_manifest(category, SETTINGS, cache=tmp_path / "seen.json")
    pd.testing.assert_frame_equal(table, build_manifest(category, SETTINGS))


def test_files_written_just_now_are_not_believed(tmp_path, looked_at):
    (tmp_path / "bottle").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "bottle" / "a.png")
    for _ in range(2):
        build_manifest(tmp_path / "bottle", SETTINGS, cache=tmp_path / "seen.json")
    assert [path.name for path in looked_at] == ["a.png", "a.png"]
