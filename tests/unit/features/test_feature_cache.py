import multiprocessing
import os
import threading

import numpy as np
import pytest

from reconpatch.errors import DataError
from reconpatch.features.feature_cache import FeatureCache


def key(number):
    return f"{number * 2654435761 % 2**32:08x}" * 8


def block(number, rows=5, columns=3):
    return np.random.default_rng(number).standard_normal((rows, columns)).astype(np.float16)


def stored(root):
    return [path for path in root.rglob("*") if path.is_file()]


def test_a_block_comes_back_as_it_went_in(tmp_path):
    cache = FeatureCache(tmp_path / "cache")
    cache.put(key(1), block(1))
    again = FeatureCache(tmp_path / "cache").get(key(1))
    assert again.dtype == np.float16
    np.testing.assert_array_equal(again, block(1))
    assert not again.flags.writeable
    assert key(1) in cache


def test_what_is_not_there_is_none(tmp_path):
    cache = FeatureCache(tmp_path / "nowhere")
    assert cache.get(key(1)) is None
    assert key(1) not in cache
    assert not (tmp_path / "nowhere").exists()


def test_blocks_that_are_not_contiguous_keep_their_values(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put(key(1), block(1).T)
    np.testing.assert_array_equal(cache.get(key(1)), block(1).T)


@pytest.mark.parametrize("array", [block(1).astype(np.float32), block(1)[0], block(1)[None]])
def test_anything_but_a_float16_matrix_is_refused(tmp_path, array):
    with pytest.raises(ValueError, match=r"\(P, D\) float16"):
        FeatureCache(tmp_path).put(key(1), array)


@pytest.mark.parametrize("place", range(0, 94, 7))
def test_any_flipped_bit_is_found_and_the_block_removed(tmp_path, place):
    cache = FeatureCache(tmp_path)
    cache.put(key(1), block(1))
    (path,) = stored(tmp_path)
    content = bytearray(path.read_bytes())
    assert len(content) == 64 + 30
    content[place] ^= 4
    path.write_bytes(content)
    padding = range(48, 64)  # says nothing, so it may change
    if place in padding:
        np.testing.assert_array_equal(cache.get(key(1)), block(1))
    else:
        assert cache.get(key(1)) is None
        assert key(1) not in cache


@pytest.mark.parametrize("length", [0, 10, 64, 93])
def test_a_block_cut_short_counts_as_absent_and_can_be_put_again(tmp_path, length):
    cache = FeatureCache(tmp_path)
    cache.put(key(1), block(1))
    (path,) = stored(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert cache.get(key(1)) is None
    cache.put(key(1), block(1))
    np.testing.assert_array_equal(cache.get(key(1)), block(1))


def test_a_block_with_its_shape_swapped_is_found(tmp_path):
    cache = FeatureCache(tmp_path)
    cache.put(key(1), block(1, 5, 3))
    (path,) = stored(tmp_path)
    content = bytearray(path.read_bytes())
    content[8:16] = content[12:16] + content[8:12]
    path.write_bytes(content)
    assert cache.get(key(1)) is None


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    cache.put(key(1), block(1))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(DataError, match="cannot be written \\(No space left on device\\); free some space"):
        cache.put(key(1), block(2))
    monkeypatch.undo()
    assert len(stored(tmp_path)) == 1
    np.testing.assert_array_equal(cache.get(key(1)), block(1))


def test_the_blocks_used_least_recently_go_first(tmp_path):
    cache = FeatureCache(tmp_path)
    for number in range(16):
        cache.put(key(number), block(number))
        os.utime(cache._path(key(number)), ns=(number, number))
    assert cache.get(key(0)) is not None  # used again
    bounded = FeatureCache(tmp_path, max_bytes=16 * (64 + 30))
    bounded.put(key(16), block(16))
    assert [number for number in range(17) if key(number) in cache] == [0, *range(4, 17)]


def test_the_folder_stays_within_its_bound_and_is_rarely_listed(tmp_path, monkeypatch):
    size = 64 + 30
    cache = FeatureCache(tmp_path, max_bytes=100 * size)
    blocks = [block(number) for number in range(10)]
    listings = []
    original = FeatureCache._list
    monkeypatch.setattr(FeatureCache, "_list", lambda self: listings.append(1) or original(self))
    most = 0
    for number in range(300):
        cache.put(key(number), blocks[number % 10])
        if number % 11 == 0:
            most = max(most, sum(path.stat().st_size for path in stored(tmp_path)))
    assert most <= 100 * size
    assert len(listings) <= 300 / 6 + 1
    assert all(key(number) in cache for number in range(290, 300))


def test_an_unbounded_cache_keeps_everything_and_lists_nothing(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    monkeypatch.setattr(FeatureCache, "_list", lambda _: pytest.fail("listed"))
    for number in range(50):
        cache.put(key(number), block(number))
    assert len(stored(tmp_path)) == 50


def test_what_a_killed_writer_left_is_removed_but_not_what_is_being_written(tmp_path):
    cache = FeatureCache(tmp_path, max_bytes=1000)
    (tmp_path / "ab" / "cd").mkdir(parents=True)
    old, young = tmp_path / "ab" / "cd" / ".old.1.1", tmp_path / "ab" / "cd" / ".young.1.1"
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (0, 0))
    cache.put(key(1), block(1))
    assert not old.exists()
    assert young.exists()


def _write_many(root, start):
    cache = FeatureCache(root, max_bytes=40 * (64 + 30))
    for number in range(start, start + 60):
        cache.put(key(number % 50), block(number % 50))
        found = cache.get(key((number * 7) % 50))
        if found is not None and not np.array_equal(found, block((number * 7) % 50)):
            os._exit(1)


def test_several_processes_write_evict_and_read_without_a_wrong_block(tmp_path):
    # Not forked: a child would inherit whatever threads and at-exit hooks earlier tests left in this process.
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(tmp_path, start)) for start in (0, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not [path for path in stored(tmp_path) if path.name.startswith(".")]


def test_threads_that_write_one_key_at_once_leave_one_whole_block(tmp_path):
    cache = FeatureCache(tmp_path)
    threads = [
        threading.Thread(target=lambda: [cache.put(key(1), block(1, 300, 20)) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(cache.get(key(1)), block(1, 300, 20))
    assert len(stored(tmp_path)) == 1
