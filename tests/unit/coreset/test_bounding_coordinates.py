from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reconpatch.coreset.bounding_coordinates import bounding_coordinates

RNG = np.random.default_rng(0)
POINTS = {
    "centred only": RNG.normal(size=(300, 20)),
    "rotated, full rank but for a small rest": RNG.normal(size=(300, 100)) * 0.5 ** np.arange(100),
    "rotated, with an outlier off the axes": np.concatenate(
        [RNG.normal(size=(299, 5)) @ RNG.normal(size=(5, 100)), 50 * RNG.normal(size=(1, 100))]
    ),
    "rank of the sample is not the rank of all": np.concatenate(
        [RNG.normal(size=(5000, 4)) @ RNG.normal(size=(4, 80)), RNG.normal(size=(50, 80))]
    ),
    "far from the origin": 1e4 + RNG.normal(size=(300, 30)),
    "tiny": 1e-25 * RNG.normal(size=(300, 30)),
    "denormal": 1e-41 * RNG.normal(size=(300, 30)),
}


def _coordinates(points):
    with ThreadPoolExecutor(2) as pool:
        return bounding_coordinates(points, "cpu", pool)


@pytest.mark.parametrize("name", POINTS)
def test_products_enclose_the_true_squared_distances(name):
    points = POINTS[name].astype(np.float32)
    coordinates = _coordinates(points)
    some = np.concatenate([np.arange(100), np.arange(len(points) - 100, len(points))])
    exact = points[some].astype(np.float64) * coordinates.scale
    true = ((exact[:, None] - exact[None]) ** 2).sum(axis=-1)
    columns = coordinates.columns(some).T
    upper = (coordinates.rows[some] @ columns).numpy() + coordinates.upper(some)[:, None]
    lower = (coordinates.low_rows(some) @ columns).numpy() + coordinates.lower(some)[:, None]
    assert (upper >= true).all()
    assert (lower <= true).all()


def test_bounds_are_tight_where_the_points_have_low_rank():
    points = (RNG.normal(size=(4000, 10)) @ RNG.normal(size=(10, 512))).astype(np.float32)
    coordinates = _coordinates(points)
    assert coordinates.rows.shape == (4000, 12)
    some = np.arange(50)
    columns = coordinates.columns(some).T
    upper = (coordinates.rows[some] @ columns).numpy() + coordinates.upper(some)[:, None]
    lower = (coordinates.low_rows(some) @ columns).numpy() + coordinates.lower(some)[:, None]
    assert (upper - lower).max() < 1e-3 * coordinates.norms.max()


def test_reordered_points_take_all_that_belongs_to_them_along():
    coordinates = _coordinates(POINTS["centred only"].astype(np.float32))
    order = RNG.permutation(300)
    moved = coordinates.reordered(order)
    np.testing.assert_array_equal(moved.rows.numpy(), coordinates.rows.numpy()[order])
    np.testing.assert_array_equal(moved.norms, coordinates.norms[order])
    assert (moved.scale, moved.slack) == (coordinates.scale, coordinates.slack)
