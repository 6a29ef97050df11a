import numpy as np
import pytest
import torch

from reconpatch.errors import DataError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.patch_scores import PatchScores
from reconpatch.settings import ScoringSettings

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 7)).astype(np.float32)
QUERIES = (2 * RNG.normal(size=(3, 20, 7))).astype(np.float32)


def score_patches(bank, queries, settings):
    with torch.inference_mode():
        return [found.numpy() for found in PatchScores(bank, settings)(torch.from_numpy(queries))]


def _naive_score(patch, vectors, neighbours):
    """Eqs. 9 and 10 for one patch: (distance, re-weighted distance)."""
    to_bank = [np.linalg.norm(patch.astype(np.float64) - vector) for vector in vectors]
    nearest = int(np.argmin(to_bank))
    around_nearest = np.argsort([np.linalg.norm(vectors[nearest] - vector) for vector in vectors])
    total = sum(np.exp(to_bank[other]) for other in around_nearest[:neighbours])
    return to_bank[nearest], (1 - np.exp(to_bank[nearest]) / total) * to_bank[nearest]


@pytest.mark.parametrize("neighbours", [2, 9, 50, 80])
@pytest.mark.parametrize("mode", ["none", "image", "patch"])
def test_scores_against_the_equations_patch_by_patch(mode, neighbours):
    settings = ScoringSettings(reweighting=mode, neighbours=neighbours)
    patch_scores, image_scores = score_patches(MemoryBank(VECTORS), QUERIES, settings)
    naive = np.array([[_naive_score(patch, VECTORS, neighbours) for patch in image] for image in QUERIES])
    np.testing.assert_allclose(patch_scores, naive[..., 1 if mode == "patch" else 0], rtol=1e-5)
    expected = patch_scores.max(axis=1)
    if mode == "image":
        worst = naive[..., 0].argmax(axis=1)
        expected = naive[np.arange(3), worst, 1]
    np.testing.assert_allclose(image_scores, expected, rtol=1e-5)
    assert patch_scores.shape == (3, 20)
    assert image_scores.shape == (3,)
    assert patch_scores.dtype == image_scores.dtype == np.float32


def test_by_hand():
    """The patch at 3 lies 1 from the vector at 2 and 3 from that at 0: 1 - e / (e + e^3) = 0.880797."""
    bank = MemoryBank(np.array([[0.0], [2.0], [100.0]], dtype=np.float32))
    queries = np.array([[[3.0], [2.0]]], dtype=np.float32)
    settings = ScoringSettings(reweighting="patch", neighbours=2)
    patch_scores, image_scores = score_patches(bank, queries, settings)
    np.testing.assert_allclose(patch_scores, [[0.880797, 0]], rtol=1e-6)
    np.testing.assert_allclose(image_scores, [0.880797], rtol=1e-6)
    patch_scores, image_scores = score_patches(
        bank, queries, ScoringSettings(reweighting="image", neighbours=2)
    )
    np.testing.assert_allclose(patch_scores, [[1, 0]])
    np.testing.assert_allclose(image_scores, [0.880797], rtol=1e-6)


def test_distances_of_thousands_do_not_overflow_the_softmax():
    bank = MemoryBank(1e4 * VECTORS)
    settings = ScoringSettings(reweighting="patch", neighbours=5)
    patch_scores, _ = score_patches(bank, 1e4 * QUERIES, settings)
    assert np.isfinite(patch_scores).all()
    assert (patch_scores >= 0).all()
    naive = np.array([_naive_score(patch, VECTORS, 5)[0] for patch in QUERIES.reshape(-1, 7)]) * 1e4
    assert (patch_scores.ravel() <= naive * (1 + 1e-5)).all()


@pytest.mark.parametrize("mode", ["none", "image", "patch"])
def test_patch_that_is_a_bank_vector_scores_zero(mode):
    queries = VECTORS[None, :4]
    patch_scores, image_scores = score_patches(
        MemoryBank(VECTORS), queries, ScoringSettings(reweighting=mode)
    )
    assert (patch_scores == 0).all()
    assert (image_scores == 0).all()


def test_weights_are_shares():
    bank = MemoryBank(VECTORS)
    distances, nearest = bank.search(QUERIES.reshape(-1, 7), 1)
    scores = PatchScores(bank, ScoringSettings(reweighting="patch", neighbours=9))
    given = (torch.from_numpy(one) for one in (QUERIES.reshape(-1, 7), distances[:, 0], nearest[:, 0]))
    weights = scores.weights(*given).numpy()
    assert weights.dtype == np.float32
    assert (weights > 0).all()
    assert (weights < 1).all()


def test_queries_of_another_width():
    with pytest.raises(DataError, match=r"\(Q, 7\)"):
        score_patches(MemoryBank(VECTORS), QUERIES[..., :5], ScoringSettings())


def _stable_weights(queries, vectors, neighbours):
    """Distances and weights in float64 with both sides of eq. 10's fraction divided by exp(D)."""
    pairs = []
    for patch in queries.astype(np.float64):
        to_bank = np.sqrt(((vectors - patch) ** 2).sum(axis=1))
        nearest = to_bank.argmin()
        around = np.argsort(((vectors - vectors[nearest]) ** 2).sum(axis=1))[:neighbours]
        farther = np.minimum(to_bank[around] - to_bank[nearest], 700)
        pairs.append((to_bank[nearest], 1 - 1 / np.exp(farther).sum()))
    return np.array(pairs).T


@pytest.mark.parametrize("spread", [1e4, 0.1])
def test_exact_weights_of_distances_of_thousands(spread):
    """Bank vectors far apart and close together: the weights are almost 1, or between 1 - 1/b and 1."""
    vectors = (spread * VECTORS).astype(np.float32)
    queries = (5000 + spread * QUERIES.reshape(1, -1, 7)).astype(np.float32)
    patch_scores, _ = score_patches(
        MemoryBank(vectors), queries, ScoringSettings(reweighting="patch", neighbours=5)
    )
    distances, weights = _stable_weights(queries[0], vectors, 5)
    assert distances.min() > 1000, "the exponential of this overflows float64"
    np.testing.assert_allclose(patch_scores[0], distances * weights, rtol=1e-3)


def test_image_mode_weighs_the_largest_distance_even_where_another_patch_ends_higher():
    # The patch at -5 has D = 5 and a second neighbour just as far, so a weight near 1/2; that at 53 has
    # D = 3 and a second neighbour 47 farther, so a weight of 1.
    bank = MemoryBank(np.array([[0], [0.1], [50], [103]], dtype=np.float32))
    queries = np.array([[[-5], [53]]], dtype=np.float32)
    weighted = 5 * (1 - 1 / (1 + np.exp(0.1)))
    assert weighted < 3
    for mode, expected in (("image", weighted), ("patch", 3)):
        settings = ScoringSettings(reweighting=mode, neighbours=2)
        assert score_patches(bank, queries, settings)[1] == pytest.approx(expected, rel=1e-5)


def test_neighbours_that_coincide_give_a_weight_of_one_minus_one_over_b():
    vectors = np.concatenate([np.zeros((20, 2)), [[9, 9]]]).astype(np.float32)
    settings = ScoringSettings(reweighting="patch", neighbours=4)
    patch_scores, _ = score_patches(MemoryBank(vectors), np.array([[[3, 4]]], dtype=np.float32), settings)
    np.testing.assert_allclose(patch_scores, [[5 * 3 / 4]], rtol=1e-6)


def test_bank_of_one_vector_re_weights_nothing():
    bank = MemoryBank(np.zeros((1, 2), dtype=np.float32))
    queries = np.array([[[3, 4], [6, 8]]], dtype=np.float32)
    for mode in ("none", "image", "patch"):
        patch_scores, image_scores = score_patches(bank, queries, ScoringSettings(reweighting=mode))
        assert patch_scores.tolist() == [[5, 10]]
        assert image_scores.tolist() == [10]


@pytest.mark.parametrize("mode", ["none", "image", "patch"])
def test_an_image_scores_alone_as_it_does_among_others(mode, monkeypatch):
    """Among others its queries come in other blocks of products."""
    monkeypatch.setattr("reconpatch.model.nearest_neighbours._PRODUCTS", 700 * len(VECTORS))
    queries = np.random.default_rng(1).normal(size=(12, 200, 7)).astype(np.float32)
    bank, settings = MemoryBank(VECTORS), ScoringSettings(reweighting=mode)
    together = score_patches(bank, queries, settings)
    for image in range(12):
        alone = score_patches(bank, queries[image : image + 1], settings)
        np.testing.assert_allclose(alone[0][0], together[0][image], rtol=1e-6)
        np.testing.assert_allclose(alone[1][0], together[1][image], rtol=1e-6)
