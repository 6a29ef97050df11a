"""Painted defects: the mask is exactly what was touched, and something was."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from reconpatch.data.synthetic_defects import DEFECTS, add_swap

SIDE = 96
KINDS = [*DEFECTS, "swap"]


def texture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(SIDE, SIDE))
    return np.clip(120 + 100 * gaussian_filter(noise, 2), 0, 255)


def paint(kind: str, picture: np.ndarray, seed: int, strength: float = 1.0):
    rng = np.random.default_rng(seed)
    if kind == "swap":
        return add_swap(picture, rng, strength, texture(99))
    return DEFECTS[kind](picture, rng, strength)


@pytest.mark.parametrize("strength", [0.6, 1.0, 2.7])
@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_what_was_touched(kind, strength):
    for seed in range(10):
        picture = texture(seed)
        before = picture.copy()
        painted, mask = paint(kind, picture, seed, strength)
        np.testing.assert_array_equal(picture, before)
        assert (painted.shape, mask.shape, mask.dtype) == (picture.shape, picture.shape, np.bool_)
        np.testing.assert_array_equal(painted[~mask], picture[~mask])
        assert (painted[mask] != picture[mask]).mean() > 0.95
        assert painted.min() >= 0
        assert painted.max() <= 255
        assert 0 < mask.mean() < 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_is_one_piece_without_holes_that_can_be_seen(kind):
    for seed in range(10):
        picture = texture(seed)
        painted, mask = paint(kind, picture, seed)
        assert label(mask, structure=np.ones((3, 3)))[1] == 1
        assert label(~mask)[1] == 1 or kind == "scratch"
        assert np.abs(painted - picture)[mask].max() > 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decides(kind):
    picture = texture(0)
    first, again, other = (paint(kind, picture, seed)[0] for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_twist_keeps_to_a_disc_and_turns_it():
    columns = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1))
    painted, mask = paint("warp", columns, 1)
    rows, where = np.nonzero(mask)
    radius = np.sqrt(mask.sum() / np.pi)
    assert np.hypot(rows - rows.mean(), where - where.mean()).max() == pytest.approx(radius, abs=1.5)
    assert np.ptp(painted, axis=0)[where].max() > 10  # columns were constant from top to bottom


def test_a_swap_takes_the_brightness_of_what_it_covers():
    picture = np.full((SIDE, SIDE), 60.0)
    painted, mask = add_swap(picture, np.random.default_rng(0), 1.0, texture(3) + 80)
    assert painted[mask].mean() == pytest.approx(60, abs=4)
