import numpy as np
import pytest

from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.errors import DataError
from reconpatch.model.score_fusion import fuse

FIRST = RobustStatistics.from_scores([1, 2, 3])
SECOND = RobustStatistics.from_scores([100, 300, 500])


def test_by_hand():
    """Modified z-scores of 3 and 300 are 1 / 1.4826 and 0, of 2 and 700 they are 0 and 2 / 1.4826."""
    fused = fuse([np.float32([3, 2]), np.float32([300, 700])], [FIRST, SECOND])
    np.testing.assert_allclose(fused, [0.5 / 1.4826, 1 / 1.4826], rtol=1e-6)
    assert fused.dtype == np.float32


def test_maps_are_fused_pixel_by_pixel():
    maps = np.random.default_rng(0).random((2, 4, 8, 8)).astype(np.float32)
    expected = (FIRST.modified_z(maps[0]) + SECOND.modified_z(maps[1])) / 2
    np.testing.assert_allclose(fuse(list(maps), [FIRST, SECOND]), expected, rtol=1e-5, atol=1e-6)


def test_units_of_a_member_do_not_matter():
    scores = np.random.default_rng(0).random((2, 9))
    statistics = [RobustStatistics.from_scores(member) for member in scores]
    scaled = RobustStatistics.from_scores(1000 * scores[1] + 5)
    np.testing.assert_allclose(
        fuse([scores[0], 1000 * scores[1] + 5], [statistics[0], scaled]),
        fuse(list(scores), statistics),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("members", "statistics"),
    [
        ([], []),
        ([np.zeros(3)], [FIRST, SECOND]),
        ([np.zeros(3), np.zeros(4)], [FIRST, SECOND]),
    ],
)
def test_members_that_do_not_match(members, statistics):
    with pytest.raises(DataError, match="ensemble needs"):
        fuse(members, statistics)


def test_each_member_is_measured_by_its_own_statistics():
    first, second = np.float32([3, 2]), np.float32([300, 700])
    fused = fuse([first, second], [FIRST, SECOND])
    np.testing.assert_array_equal(fuse([second, first], [SECOND, FIRST]), fused)
    assert not np.allclose(fuse([first, second], [SECOND, FIRST]), fused)


def test_one_member_is_its_modified_z_score():
    scores = np.random.default_rng(0).normal(size=12)
    np.testing.assert_allclose(fuse([scores], [SECOND]), SECOND.modified_z(scores), rtol=1e-6)


def test_mean_of_three_members_leaves_them_alone():
    members = [np.full((2, 4), value, dtype=np.float32) for value in (2, 2, 5)]
    np.testing.assert_allclose(fuse(members, [FIRST] * 3), np.full((2, 4), 1 / 1.4826), rtol=1e-6)
    assert [member.max() for member in members] == [2, 2, 5]
