"""The invariant that the whole selection rests on, looked at after every step of a traversal."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from reconpatch.coreset import farthest_first
from reconpatch.coreset.lazy_bounds import CHOSEN, LazyBounds


class _Checked(LazyBounds):
    """Compares bounds with true distances whenever they are written."""

    points: np.ndarray
    exact = 0

    def confirm(self, places, values):
        self._check()
        super().confirm(places, values)
        self._check()

    def add(self, centres, places, values):
        self._check()
        super().add(centres, places, values)
        self._check()

    def _check(self):
        assert self.known.max() <= self.count, "a centre that is not there yet is counted"
        points = self.points.astype(np.float64)[self.order] * self.coordinates.scale
        centres = self.points.astype(np.float64)[self.centres[: self.count]] * self.coordinates.scale
        squared = ((points[:, None] - centres) ** 2).sum(axis=2)
        waiting = self.bound != CHOSEN
        # Where nothing is known the distance to no centre is infinite.
        true = np.minimum.accumulate(np.hstack([np.full((len(points), 1), np.inf), squared]), axis=1)
        assert (self.bound[waiting] >= true[waiting, -1] * (1 - 1e-12)).all()
        sure = waiting & (self.known > 0)
        np.testing.assert_allclose(
            np.minimum(self.bound[sure], true[sure, self.known[sure]]), self.bound[sure], rtol=1e-12
        )
        _Checked.exact += int(sure.sum())


@pytest.mark.parametrize("shape", ["smooth", "ties"])
def test_bounds_are_never_too_low_and_exact_for_the_centres_that_are_known(shape, monkeypatch):
    points = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    _Checked.points = points if shape == "smooth" else np.round(points)
    _Checked.exact = 0
    monkeypatch.setattr(farthest_first, "LazyBounds", _Checked)
    monkeypatch.setattr(farthest_first, "_CONTENDERS", 32)
    with ThreadPoolExecutor(1) as pool:
        picked = list(farthest_first.Traversal(_Checked.points, 60, "cpu", pool).picks(0))
    assert len(set(picked)) == 60
    assert _Checked.exact > 100
