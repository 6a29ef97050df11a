"""A bank that is selected part by part, in any order and place, is the one that is selected at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from reconpatch.coreset.bank_selection import bank_of_parts, fit_bank, plan_bank, reduce_part
from reconpatch.coreset.merge_reduce import plan_selection
from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.modulation import AnyModulation, Identity, Modulation
from reconpatch.model.region import Region
from reconpatch.settings import load_settings

_GRID, _DIM, _IMAGES = (8, 8), 24, 100
_STATED = load_settings(None, {"coreset.ratio": 0.01, "threads": 1, "device": "cpu"})
# Less than the parameters allow, so that few vectors are many.
_LITTLE = _STATED.coreset.model_copy(update={"memory_budget_mib": 1})
SETTINGS = _STATED.model_copy(update={"coreset": _LITTLE})


@pytest.fixture(params=[False, True], ids=["whole", "region"])
def features(tmp_path: Path, request: pytest.FixtureRequest) -> PatchFeatures:
    """A hundred images, whole or less their first row, whose chunks begin and end within images."""
    cache, random = FeatureCache(tmp_path), np.random.default_rng(0)
    images = [{"path": f"{i}.png", "sha256": f"{i:064x}"} for i in range(_IMAGES)]
    index = {"extractor": "e", "grid": list(_GRID), "dim": _DIM, "images": images}
    found = PatchFeatures.from_index(index, tmp_path, cache, SETTINGS.features, choose_device("cpu"))
    for entry in found.entries:
        cache.put(entry, random.normal(size=(64, _DIM)).astype(np.float16))
    if not request.param:
        return found
    pixels = np.ones((64, 64), bool)
    pixels[:8] = False
    return replace(found, region=Region(pixels))


def _modulation() -> Modulation:
    import torch

    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(12, _DIM)).astype(np.float32))
    return Modulation(weight, torch.zeros(_DIM), torch.tensor(1.0))


@pytest.mark.parametrize("modulation", [Identity(_DIM), _modulation()], ids=["plain", "modulated"])
def test_parts_make_the_bank_that_one_pass_makes(features: PatchFeatures, modulation: AnyModulation) -> None:
    expected = fit_bank(features, modulation, SETTINGS)
    plan = plan_bank(features, modulation, SETTINGS)
    assert plan.chunks > 1
    assert plan.rows(0).stop % (features.patches // _IMAGES)
    reduced = {number: reduce_part(features, modulation, plan, number, SETTINGS) for number in (1, 0)}
    reduced |= {n: reduce_part(features, modulation, plan, n, SETTINGS) for n in range(2, plan.chunks)}
    ordered = [reduced[number] for number in range(plan.chunks)]
    np.testing.assert_array_equal(bank_of_parts(ordered, plan, SETTINGS).vectors, expected.vectors)


def test_chunks_cover_the_vectors_once() -> None:
    plan = plan_selection(10_000, 20, 32, 1 << 20)
    rows = [row for number in range(plan.chunks) for row in plan.rows(number)]
    assert rows == list(range(10_000))
    assert plan_selection(100, 20, 32, 1 << 20).chunks == 1
