"""Random batches over all patches."""

from itertools import islice

import numpy as np
import pytest
import torch

from reconpatch.errors import DataError
from reconpatch.training.minibatches import as_rows, balanced_batches, load_batch, random_batches


def take(count, size, how_many, seed=0):
    return list(islice(random_batches(count, size, torch.Generator().manual_seed(seed)), how_many))


def test_a_pass_holds_every_patch_at_most_once_and_leaves_only_the_remainder_out():
    batches = take(23, 5, 8)
    assert all(len(batch) == 5 for batch in batches)
    assert len(set(np.concatenate(batches[:4]))) == len(set(np.concatenate(batches[4:]))) == 20
    assert not np.array_equal(batches[0], batches[4])


@pytest.mark.parametrize("count", [1, 4, 5])
def test_few_patches_make_one_batch_of_all(count):
    assert [sorted(batch) for batch in take(count, 5, 2)] == [list(range(count))] * 2


def test_the_generator_alone_decides_the_order():
    np.testing.assert_array_equal(take(50, 7, 9), take(50, 7, 9))
    assert not np.array_equal(take(50, 7, 9), take(50, 7, 9, seed=1))


def test_load_batch_picks_rows_as_float32():
    rows = np.arange(12, dtype=np.float16).reshape(4, 3)
    batch = load_batch(rows, np.array([2, 0]), torch.device("cpu"))
    assert torch.equal(batch, torch.tensor([[6.0, 7.0, 8.0], [0.0, 1.0, 2.0]]))


@pytest.mark.parametrize("bad", [np.zeros((0, 3), "f4"), np.zeros((2, 3, 4), "f4"), np.zeros((2, 3), "i4")])
def test_other_features_are_refused(bad):
    with pytest.raises(DataError, match=r"validation features of shape \(.*must be \(n, D\)"):
        as_rows(bad, "validation features")


def test_balanced_batches_have_as_many_of_each_part_and_leave_nothing_out():
    parts = [10, 40, 3]
    batches = list(islice(balanced_batches(parts, 17, torch.Generator().manual_seed(0)), 8))
    edges = np.cumsum([0, *parts])
    for batch in batches:
        assert np.histogram(batch, edges)[0].tolist() == [5, 5, 3]
        assert len(set(batch.tolist())) == 13
    first_pass = np.concatenate(batches[:2])
    assert sorted(first_pass[first_pass < 10].tolist()) == list(range(10))
    assert set(np.concatenate(batches).tolist()) == set(range(53))


def test_one_part_is_the_same_as_none():
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    one, none = balanced_batches([50], 16, generators[0]), random_batches(50, 16, generators[1])
    for left, right in islice(zip(one, none, strict=True), 7):
        np.testing.assert_array_equal(left, right)


def test_more_parts_than_a_batch_has_rows():
    batch = next(balanced_batches([4] * 5, 2, torch.Generator().manual_seed(0)))
    assert sorted((batch // 4).tolist()) == [0, 1, 2, 3, 4]


def test_the_parts_of_a_batch_are_mixed():
    """The first patches of a batch stand for all of it in sigma's median."""
    batch = next(balanced_batches([1000, 1000], 512, torch.Generator().manual_seed(0)))
    assert 16 < (batch[:64] < 1000).sum() < 48
