import subprocess
import sys

import numpy as np
import pytest

from reconpatch.coreset import memory_budget
from reconpatch.coreset.k_center import k_center_greedy
from reconpatch.coreset.merge_reduce import select_coreset, working_bytes
from reconpatch.coreset.textbook import covering_radius
from reconpatch.errors import DataError, SettingsError

POINTS = np.random.default_rng(0).normal(size=(6000, 6)).astype(np.float32)
SIZE = 40


def _select(vectors_in_budget, points=POINTS, size=SIZE):
    blocks = np.array_split(points, 41)
    budget = vectors_in_budget * working_bytes(points.shape[1])
    return select_coreset(iter(blocks), len(points), size, seed=0, memory_budget=budget)


def test_within_the_budget_it_is_the_exact_selection_in_order():
    expected = POINTS[k_center_greedy(POINTS, SIZE)]
    np.testing.assert_array_equal(_select(len(POINTS)), expected)
    np.testing.assert_array_equal(
        select_coreset(np.array_split(POINTS, 7), len(POINTS), SIZE, seed=0), expected
    )


def test_seed_is_that_of_the_exact_selection():
    selected = select_coreset([POINTS], len(POINTS), SIZE, seed=5)
    np.testing.assert_array_equal(selected, POINTS[k_center_greedy(POINTS, SIZE, seed=5)])


@pytest.mark.parametrize("vectors_in_budget", [5999, 3000, 1000, 400, 4 * SIZE])
def test_beyond_the_budget_the_radius_keeps_the_bound(vectors_in_budget):
    selected = _select(vectors_in_budget)
    assert selected.shape == (SIZE, 6)
    assert selected.dtype == np.float32
    assert {row.tobytes() for row in selected} <= {row.tobytes() for row in POINTS}
    # The exact selection and its farthest point lie pairwise its radius apart: OPT is at least half of it,
    # so 4 OPT is at least twice it.
    exact = covering_radius(POINTS, POINTS[k_center_greedy(POINTS, SIZE)])
    assert covering_radius(POINTS, selected) <= 2 * exact


def test_clusters_that_come_one_after_the_other_are_all_kept():
    rng = np.random.default_rng(1)
    centres = 100 * rng.normal(size=(SIZE, 6))
    points = np.repeat(centres, 100, axis=0) + rng.normal(size=(4000, 6))
    selected = _select(4 * SIZE, points.astype(np.float32))
    nearest = ((selected[:, None] - centres) ** 2).sum(axis=-1).argmin(axis=1)
    assert sorted(nearest) == list(range(SIZE))


def test_budget_too_small_for_the_selection_names_one_that_is_enough():
    with pytest.raises(SettingsError, match=r"coreset.memory_budget_mib: 0 MiB .* give (\d+) MiB") as caught:
        _select(4 * SIZE - 1)
    needed = int(str(caught.value).split("give ")[1].split(" MiB")[0])
    blocks = iter([POINTS])
    assert len(select_coreset(blocks, len(POINTS), SIZE, seed=0, memory_budget=needed << 20)) == SIZE


@pytest.mark.parametrize("came", [5999, 6001])
@pytest.mark.parametrize("vectors_in_budget", [6000, 500])
def test_other_number_of_vectors_than_announced(came, vectors_in_budget):
    points = np.resize(POINTS, (came, 6))
    with pytest.raises(DataError, match="6000 vectors were announced"):
        select_coreset(
            np.array_split(points, 9), 6000, SIZE, seed=0, memory_budget=vectors_in_budget * working_bytes(6)
        )


def test_no_block_and_blocks_of_different_widths():
    with pytest.raises(DataError, match=r"no \(n, D\) block came"):
        select_coreset([], 10, 2, seed=0)
    with pytest.raises(DataError, match=r"\(5, 3\)"):
        select_coreset([POINTS[:5], POINTS[:5, :3]], 10, 2, seed=0)


@pytest.mark.parametrize("size", [0, 7])
def test_size_that_is_not_in_range(size):
    with pytest.raises(SettingsError, match=f"size is {size}"):
        select_coreset([POINTS[:6]], 6, size, seed=0)


def test_default_budget_is_a_quarter_of_the_memory_or_of_the_containers(tmp_path, monkeypatch):
    monkeypatch.setattr(
        memory_budget.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__
    )
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_budget, "_CGROUP_LIMIT", limit)
    assert memory_budget.default_memory_budget() == 1_024_000
    limit.write_text("max\n")
    assert memory_budget.default_memory_budget() == 1_024_000
    limit.write_text("400000\n")
    assert memory_budget.default_memory_budget() == 100_000


PEAK = """
import resource, sys
import numpy as np
from reconpatch.coreset.k_center import k_center_greedy
from reconpatch.coreset.merge_reduce import select_coreset
k_center_greedy(np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32), 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = int(sys.argv[1])
blocks = (np.random.default_rng(i).normal(size=(2000, 64)).astype(np.float32) for i in range(count))
select_coreset(blocks, 2000 * count, 50, seed=0, memory_budget=16 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_peak_memory_stays_within_the_budget_however_much_comes():
    peaks = [
        int(subprocess.run([sys.executable, "-c", PEAK, blocks], capture_output=True, check=True).stdout)
        for blocks in ("25", "150")
    ]
    # 25 blocks are 12 MiB and 150 are 73 MiB; the budget is 16 MiB, the buffers come on top.
    assert max(peaks) < 16 + 30
    assert abs(peaks[1] - peaks[0]) < 10
