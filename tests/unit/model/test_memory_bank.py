import numpy as np
import pytest
from safetensors.numpy import save_file

from reconpatch.errors import DataError, ModelError
from reconpatch.model.memory_bank import MemoryBank

VECTORS = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)


def test_search_gives_the_nearest_vectors():
    queries = VECTORS[10:14] + np.float32(1e-3)
    distances, indices = MemoryBank(VECTORS).search(queries, 2)
    assert distances.shape == indices.shape == (4, 2)
    assert indices[:, 0].tolist() == [10, 11, 12, 13]
    np.testing.assert_allclose(distances[:, 0], 1e-3 * np.sqrt(5), rtol=1e-3)


def test_search_takes_one_neighbour_unless_told():
    assert MemoryBank(VECTORS).search(VECTORS)[1].tolist() == [[index] for index in range(60)]


def test_no_queries_have_no_neighbours():
    distances, indices = MemoryBank(VECTORS).search(np.empty((0, 5), np.float32), 3)
    assert distances.shape == indices.shape == (0, 3)


@pytest.mark.parametrize("k", [0, 61])
def test_search_for_more_neighbours_than_there_are(k):
    with pytest.raises(DataError, match=f"k is {k}: .* 60"):
        MemoryBank(VECTORS).search(VECTORS, k)


@pytest.mark.parametrize("shape", [(3, 4), (5,), (2, 3, 5)])
def test_queries_of_another_width(shape):
    with pytest.raises(DataError, match=r"\(Q, 5\)"):
        MemoryBank(VECTORS).search(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_queries_that_are_not_finite(value):
    queries = VECTORS[:3].copy()
    queries[1, 2] = value
    with pytest.raises(DataError, match="queries hold NaN or infinite"):
        MemoryBank(VECTORS).search(queries)


def test_neighbours_of_bank_vectors_are_found_once():
    bank = MemoryBank(VECTORS)
    exact = np.argsort(((VECTORS[:, None] - VECTORS) ** 2).sum(axis=-1), axis=1)
    np.testing.assert_array_equal(bank.neighbours(4), exact[:, :4])
    assert bank.neighbours(4) is bank.neighbours(4)
    assert bank.neighbours(3).shape == (60, 3)


def test_small_bank_gives_all_its_vectors_as_neighbours():
    assert MemoryBank(VECTORS[:3]).neighbours(9).shape == (3, 3)
    assert MemoryBank(VECTORS[:1]).neighbours(9).tolist() == [[0]]


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((0, 4), np.float32), np.zeros((4, 0), np.float32), np.zeros(4, np.float32), np.zeros((4, 4))],
)
def test_vectors_of_wrong_shape_or_type(vectors):
    with pytest.raises(DataError, match="must be"):
        MemoryBank(vectors)


def test_vectors_that_are_not_finite():
    vectors = VECTORS.copy()
    vectors[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        MemoryBank(vectors)


def test_length_and_width():
    bank = MemoryBank(VECTORS)
    assert (len(bank), bank.dim) == (60, 5)


def test_saved_and_loaded_bank_is_the_same_and_its_bytes_are_too(tmp_path):
    path = tmp_path / "bank.safetensors"
    MemoryBank(VECTORS).save(path)
    loaded = MemoryBank.load(path)
    np.testing.assert_array_equal(loaded.vectors, VECTORS)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["again.safetensors", "bank.safetensors"]


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "bank.safetensors"
    MemoryBank(VECTORS).save(path)
    before = path.read_bytes()

    def fail(_, target):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("reconpatch.model.memory_bank.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        MemoryBank(VECTORS[:5]).save(path)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["bank.safetensors"]


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_cut_file(tmp_path, kept):
    path = tmp_path / "bank.safetensors"
    MemoryBank(VECTORS).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"bank\.safetensors: no complete safetensors file"):
        MemoryBank.load(path)


@pytest.mark.parametrize(
    "tensors",
    [
        {"vectors": VECTORS.astype(np.float64)},
        {"vectors": VECTORS[0]},
        {"vectors": VECTORS[:0]},
        {"weights": VECTORS},
        {"vectors": VECTORS, "more": VECTORS},
        {"vectors": np.full((2, 2), np.nan, np.float32)},
    ],
)
def test_file_that_holds_something_else(tmp_path, tensors):
    path = tmp_path / "bank.safetensors"
    save_file(tensors, path)
    with pytest.raises(ModelError, match=r"bank\.safetensors: "):
        MemoryBank.load(path)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"bank\.safetensors: the memory bank is missing"):
        MemoryBank.load(tmp_path / "bank.safetensors")
