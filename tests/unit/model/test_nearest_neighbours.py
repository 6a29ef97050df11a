import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reconpatch.model.faiss_index import gpu_index
from reconpatch.model.nearest_neighbours import NearestNeighbours

RNG = np.random.default_rng(0)


def _exact(vectors, queries):
    return np.sqrt(((queries[:, None].astype(np.float64) - vectors) ** 2).sum(axis=-1))


@pytest.mark.parametrize(("width", "rank"), [(3, 3), (40, 40), (120, 12), (96, 48)])
@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("queries", [1, 300])
def test_neighbours_and_distances_are_those_of_all_differences(width, rank, k, queries):
    mixing = RNG.normal(size=(rank, width))
    vectors = (RNG.normal(size=(250, rank)) @ mixing + 3).astype(np.float32)
    asked = (RNG.normal(size=(queries, rank)) @ mixing + 3).astype(np.float32)
    distances, indices = NearestNeighbours(vectors).search(asked, k)
    exact = _exact(vectors, asked)
    np.testing.assert_array_equal(indices, np.argsort(exact, axis=1)[:, :k])
    np.testing.assert_allclose(distances, np.sort(exact, axis=1)[:, :k], rtol=1e-5)
    assert (distances.dtype, indices.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize(("rank", "searched"), [(12, 12), (48, 48), (49, 96)])
def test_search_runs_in_as_many_dimensions_as_the_vectors_span(rank, searched):
    vectors = (RNG.normal(size=(250, rank)) @ RNG.normal(size=(rank, 96)) + 3).astype(np.float32)
    assert NearestNeighbours(vectors).short.shape[1] == searched


@pytest.mark.parametrize("k", [1, 3])
def test_blocks_of_queries_do_not_change_what_is_found(monkeypatch, k):
    vectors, queries = (
        RNG.normal(size=(90, 7)).astype(np.float32),
        RNG.normal(size=(40, 7)).astype(np.float32),
    )
    whole = NearestNeighbours(vectors).search(queries, k)
    monkeypatch.setattr("reconpatch.model.nearest_neighbours._PRODUCTS", 300)
    for one, other in zip(whole, NearestNeighbours(vectors).search(queries, k), strict=True):
        np.testing.assert_array_equal(one, other)


def test_queries_outside_the_span_of_the_vectors_keep_their_distance():
    vectors = (RNG.normal(size=(250, 10)) @ RNG.normal(size=(10, 96))).astype(np.float32)
    queries = RNG.normal(size=(50, 96)).astype(np.float32)
    distances, indices = NearestNeighbours(vectors).search(queries, 1)
    exact = _exact(vectors, queries)
    np.testing.assert_array_equal(indices[:, 0], exact.argmin(axis=1))
    np.testing.assert_allclose(distances[:, 0], exact.min(axis=1), rtol=1e-5)


def test_identical_and_almost_identical_vectors_far_from_the_origin():
    vectors = (1000 + RNG.normal(size=(500, 64))).astype(np.float32)
    near = vectors.copy()
    near[:, 5] += np.float32(1e-3)
    searched = NearestNeighbours(vectors)
    distances, indices = searched.search(vectors, 1)
    assert (distances == 0).all()
    np.testing.assert_array_equal(indices[:, 0], np.arange(500))
    moved = np.abs(near[:, 5].astype(np.float64) - vectors[:, 5])
    np.testing.assert_allclose(searched.search(near, 1)[0][:, 0], moved, rtol=1e-6)


def test_equal_distances_come_with_the_lowest_index_first():
    vectors = np.array([[1, 0], [0, 1], [1, 0], [5, 5]], dtype=np.float32)
    distances, indices = NearestNeighbours(vectors).search(np.zeros((1, 2), np.float32), 3)
    assert indices.tolist() == [[0, 1, 2]]
    assert distances.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("vectors", [np.zeros((3, 4), np.float32), np.ones((1, 80), np.float32)])
def test_vectors_without_spread(vectors):
    distances, _ = NearestNeighbours(vectors).search(vectors + np.float32(2), 1)
    np.testing.assert_allclose(distances, 2 * np.sqrt(vectors.shape[1]))


class _Flat:
    """As much of faiss as a flat index is."""

    def __init__(self, width):
        self._vectors = np.empty((0, width), np.float32)

    def add(self, vectors):
        self._vectors = vectors

    def search(self, queries, k):
        order = np.argsort(_exact(self._vectors, queries), axis=1)[:, :k]
        return None, order


def test_faiss_searches_on_a_gpu_where_it_is_installed_with_one(monkeypatch):
    moved = []
    faiss = SimpleNamespace(
        IndexFlatL2=_Flat,
        StandardGpuResources=lambda: "resources",
        index_cpu_to_gpu=lambda *parts: moved.append(parts[:2]) or parts[2],
    )
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setattr(NearestNeighbours, "to", lambda self, _: self)  # no GPU is here
    vectors = RNG.normal(size=(20, 3)).astype(np.float32)
    on_gpu = NearestNeighbours(vectors, torch.device("cuda"))
    assert on_gpu.search(vectors, 1)[1].ravel().tolist() == list(range(20))
    NearestNeighbours(vectors, torch.device("cuda:3"))
    NearestNeighbours(vectors, torch.device("cpu"))
    assert moved == [("resources", 1), ("resources", 3)]


@pytest.mark.parametrize("faiss", [None, SimpleNamespace()], ids=["no faiss", "faiss without a GPU"])
def test_torch_searches_on_a_gpu_otherwise(monkeypatch, faiss):
    monkeypatch.setitem(sys.modules, "faiss", faiss)
    assert gpu_index(np.zeros((3, 2), np.float32), torch.device("cuda:0")) is None


def test_distances_to_given_vectors():
    vectors = np.array([[0, 0], [3, 4], [6, 8]], dtype=np.float32)
    queries = np.repeat(np.array([[0, 0], [3, 4]], dtype=np.float32), 800, axis=0)
    indices = np.tile(np.array([[1, 2]]), (1600, 1))
    expected = np.repeat(np.array([[5, 10], [0, 5]], dtype=np.float32), 800, axis=0)
    found = NearestNeighbours(vectors).distances_to(torch.from_numpy(queries), torch.from_numpy(indices))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_direction_that_one_vector_alone_holds_is_searched():
    rng = np.random.default_rng(3)
    vectors = np.zeros((20_000, 32), np.float32)
    vectors[:, :8] = rng.normal(size=(20_000, 8))
    vectors[7] = vectors.mean(axis=0)
    vectors[9] = vectors[7]
    vectors[9, 20] += 1e-3  # of the squared lengths of all vectors together 6e-12
    searched = NearestNeighbours(vectors)
    distances, indices = searched.search(vectors[[7, 9]], 1)
    assert indices[:, 0].tolist() == [7, 9]
    assert distances[:, 0].tolist() == [0, 0]
    assert searched.axes.shape == (32, 9)
