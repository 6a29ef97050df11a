from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reconpatch.coreset.bounding_coordinates import bounding_coordinates
from reconpatch.coreset.point_partition import build_cells


def _clustered(count=3000):
    rng = np.random.default_rng(0)
    return (20 * rng.normal(size=(30, 6))[rng.integers(0, 30, count)] + rng.normal(size=(count, 6))).astype(
        np.float32
    )


def test_cells_partition_the_points_and_a_cell_is_skipped_only_when_it_may_be():
    points = _clustered()
    with ThreadPoolExecutor(2) as pool:
        coordinates = bounding_coordinates(points, "cpu", pool)
        cells = build_cells(coordinates, pool)
    np.testing.assert_array_equal(np.sort(cells.order), np.arange(len(points)))
    assert cells.starts[0] == 0
    assert cells.starts[-1] == len(points)
    in_place = coordinates.reordered(cells.order)
    scaled = points.astype(np.float64)[cells.order] * coordinates.scale
    asked = np.arange(0, len(points), 100)
    ceilings = np.full(len(cells.radii), (3 * coordinates.scale) ** 2)
    reached = cells.reached(in_place, asked, ceilings)
    nearest = np.stack(
        [
            ((scaled[asked, None] - scaled[None, cells.places(cell)]) ** 2).sum(axis=-1).min(axis=1)
            for cell in range(len(cells.radii))
        ],
        axis=1,
    )
    assert (nearest[~reached] > np.broadcast_to(ceilings, reached.shape)[~reached]).all()
    assert reached.mean() < 0.3, "clusters this far apart must let most cells be skipped"


def test_no_point_reaches_a_cell_without_points_of_interest():
    points = _clustered(200)
    with ThreadPoolExecutor(1) as pool:
        coordinates = bounding_coordinates(points, "cpu", pool)
        cells = build_cells(coordinates, pool)
    reached = cells.reached(
        coordinates.reordered(cells.order), np.arange(200), np.full(len(cells.radii), -1.0)
    )
    assert not reached.any()
