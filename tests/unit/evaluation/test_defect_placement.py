import numpy as np
import pytest

from reconpatch.evaluation.defect_placement import KINDS, add_defect


def an_image(shape=(90, 120)):
    rng = np.random.default_rng(0)
    return rng.integers(60, 190, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("shape", [(90, 120), (16, 16), (20, 200)])
@pytest.mark.parametrize("seed", range(5))
def test_the_mask_is_exact_where_it_counts(kind, shape, seed):
    image = an_image(shape)
    before = image.copy()
    defect = add_defect(image, kind, seed)
    changed = (defect.image != image).any(axis=2)
    assert (image == before).all()
    assert defect.image.shape == image.shape
    assert defect.image.dtype == np.uint8
    assert changed.any()
    assert not changed[~defect.mask].any()
    assert changed[defect.mask].mean() > 0.3
    assert 0 < defect.mask.mean() < 0.35


def test_same_seed_same_bytes():
    for kind in KINDS:
        first, second, other = (add_defect(an_image(), kind, seed) for seed in (3, 3, 4))
        assert first.image.tobytes() == second.image.tobytes()
        assert first.image.tobytes() != other.image.tobytes()
