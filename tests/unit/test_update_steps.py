"""The steps of an update against their definitions, on features made by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from reconpatch.calibration.calibrate import calibrate
from reconpatch.coreset.bank_selection import fit_bank
from reconpatch.coreset.k_center import k_center_greedy
from reconpatch.data.training_images import TrainingSet
from reconpatch.device import choose_device
from reconpatch.errors import DataError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import training_set
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Identity
from reconpatch.settings import load_settings
from reconpatch.training.fit_modulation import fit_modulation
from reconpatch.update import (
    all_pairs,
    can_recalibrate,
    check_mode,
    extend,
    fine_tune,
    merge_bank,
    new_images,
    recalibrate,
    split_new,
)

_GRID, _DIM = (8, 8), 6
SETTINGS = load_settings(
    None,
    {
        "modulation.dim": 8,
        "modulation.projection_dim": 4,
        "modulation.batch_size": 64,
        "modulation.steps": 30,
        "coreset.ratio": 0.1,
        "features.image_size": 32,
        "threads": 1,
    },
)


@pytest.fixture
def make_features(tmp_path):
    def make(blocks):
        cache = FeatureCache(tmp_path)
        digests = [f"{abs(hash(block.tobytes())):x}" for block in blocks]
        index = {
            "extractor": "e",
            "grid": list(_GRID),
            "dim": _DIM,
            "images": [{"path": digest, "sha256": digest} for digest in digests],
        }
        found = PatchFeatures.from_index(index, tmp_path, cache, None, choose_device("cpu"))
        for i, block in enumerate(blocks):
            cache.put(found._entry(i), block)
        return found

    return make


@pytest.fixture
def blocks():
    return np.random.default_rng(0).normal(size=(12, 64, _DIM)).astype(np.float16)


def _radius(points, bank):
    return cdist(points.astype(np.float64), bank.astype(np.float64)).min(axis=1).max()


def test_the_bank_is_k_center_over_the_old_bank_and_the_new_patches(make_features, blocks):
    old, new = make_features(blocks[:9]), make_features(blocks[9:])
    bank = fit_bank(old, Identity(_DIM), SETTINGS)
    merged = merge_bank(bank, new, Identity(_DIM), SETTINGS)
    union = np.concatenate([bank.vectors, new.as_array().astype(np.float32)])
    size = len(bank) + round(0.1 * 3 * 64)
    np.testing.assert_array_equal(merged.vectors, union[k_center_greedy(union, size)])


def test_every_patch_stays_within_the_radius_that_is_promised(make_features, blocks):
    old, new = make_features(blocks[:9]), make_features(blocks[9:])
    bank = fit_bank(old, Identity(_DIM), SETTINGS)
    before = _radius(old.as_array(), bank.vectors)
    merged = merge_bank(bank, new, Identity(_DIM), SETTINGS)
    union = np.concatenate([bank.vectors, new.as_array().astype(np.float32)])
    # The size + 1 points of a farther-first traversal lie apart by its last distance, which is at most 2 OPT.
    last = _radius(union, merged.vectors)
    assert _radius(new.as_array(), merged.vectors) <= last + 1e-9
    assert _radius(old.as_array(), merged.vectors) <= before + last + 1e-9


def test_the_cap_on_the_bank_holds(make_features, blocks):
    capped = load_settings(None, {"coreset.max_bank": 40}, base=SETTINGS)
    bank = fit_bank(make_features(blocks[:9]), Identity(_DIM), capped)
    assert len(bank) == 40
    assert len(merge_bank(bank, make_features(blocks[9:]), Identity(_DIM), capped)) == 40


def test_a_novel_patch_gets_into_a_full_bank(make_features, blocks):
    capped = load_settings(None, {"coreset.max_bank": 40}, base=SETTINGS)
    bank = fit_bank(make_features(blocks[:9]), Identity(_DIM), capped)
    blocks[9, 5] = 50
    merged = merge_bank(bank, make_features(blocks[9:]), Identity(_DIM), capped)
    assert (merged.vectors == 50).all(axis=1).sum() == 1


def test_a_fine_tuned_bank_is_what_the_new_f_makes_of_the_same_patches(make_features, blocks):
    old, new = make_features(blocks[:9]), make_features(blocks[9:])
    modulation = fit_modulation(old, SETTINGS).modulation
    patches = old.as_array()[:70]
    moved, bank = fine_tune(modulation, MemoryBank(modulation.transform(patches)), new, SETTINGS)
    np.testing.assert_allclose(bank.vectors, moved.transform(patches), atol=1e-4)
    assert not np.allclose(
        cdist(bank.vectors, bank.vectors), cdist(*2 * [modulation.transform(patches)]), 1e-3
    )


def test_no_step_of_a_fine_tune_keeps_every_distance(make_features, blocks, monkeypatch):
    monkeypatch.setattr("reconpatch.update.FINE_TUNE_STEPS", 0)
    old, new = make_features(blocks[:9]), make_features(blocks[9:])
    modulation = fit_modulation(old, SETTINGS).modulation
    vectors = modulation.transform(old.as_array()[:70])
    moved, bank = fine_tune(modulation, MemoryBank(vectors), new, SETTINGS)
    np.testing.assert_allclose(cdist(bank.vectors, bank.vectors), cdist(vectors, vectors), atol=1e-4)
    assert not np.allclose(moved.weight.detach(), modulation.weight.detach())


def test_images_known_under_any_name_and_repeats_are_not_new():
    known = TrainingSet(fit=("a", "b"), holdout=("c",))
    np.testing.assert_array_equal(new_images(["x", "c", "a", "x", "y"], known), [0, 4])
    with pytest.raises(DataError, match="knows all 2 images"):
        new_images(["c", "b"], known)


def _components(edges):
    """Sets of what is tied together, by merging until nothing changes."""
    found = [set(edge) for edge in edges]
    while True:
        merged = []
        for one in found:
            touching = [other for other in merged if other & one]
            merged = [other for other in merged if not other & one] + [one.union(*touching)]
        if len(merged) == len(found):
            return merged
        found = merged


@pytest.mark.parametrize("seed", range(40))
def test_a_new_image_stays_on_the_side_of_whatever_ties_it_to_a_known_one(make_features, seed):
    """Oracle: components of the graph of contents, groups named now and groups named before."""
    random = np.random.default_rng(seed)
    names = [f"{name:02}" for name in range(14)]
    known_names, parts = names[:8], random.integers(5, size=8)
    side = random.integers(2, size=5)  # of each part that the detector knows
    keys = dict(zip(known_names, (f"key of part {part}" for part in parts), strict=True))
    if seed % 2:  # fitted on a list of images, each its own group; the parts are named later
        keys, side = {name: name for name in known_names}, random.integers(2, size=8)
        parts = np.arange(8)
    held = [name for name, part in zip(known_names, parts, strict=True) if side[part]]
    fit = [name for name in known_names if name not in held]
    known = TrainingSet.from_pairs(
        [(name, keys[name]) for name in fit], [(name, keys[name]) for name in held]
    )
    content = random.choice(names, size=20).tolist()  # the same image may be given under two names
    groups = [f"part{number}" for number in random.integers(10, size=20)]
    given = replace(
        make_features(np.zeros((1, 64, _DIM), np.float16)),
        paths=tuple(Path(f"{number}.png") for number in range(20)),
        image_digests=tuple(content),
    )
    edges = [("image " + name, "group " + group) for name, group in zip(content, groups, strict=True)]
    edges += [("image " + name, "key " + key) for name, key in keys.items()]
    components = _components(edges)
    new = {name for name in content if name not in known_names}
    assert new
    split = split_new(given, groups, known, SETTINGS)
    chosen = {place: {content[i] for i in getattr(split, place)} for place in ("fit", "holdout")}
    assert chosen["fit"] | chosen["holdout"] == new
    assert len(split.fit) + len(split.holdout) == len(new)
    for component in components:
        images = {node.removeprefix("image ") for node in component if node.startswith("image ")}
        if images & set(held):
            assert not images & chosen["fit"]
        elif images & set(fit):
            assert not images & chosen["holdout"]
        assert not (images & chosen["fit"] and images & chosen["holdout"])
    after = extend(known, training_set(given, groups, split), all_pairs(given, groups))
    assert set(after.fit) == set(fit) | chosen["fit"]
    of = dict([*after.fit_pairs, *after.holdout_pairs])
    together = {frozenset(name for name in of if of[name] == group) for group in of.values()}
    wanted = {
        frozenset(node.removeprefix("image ") for node in one if node.startswith("image ")) & set(of)
        for one in components
    }
    assert together == {one for one in wanted if one}


def test_the_training_set_grows_by_both_parts():
    grown = extend(TrainingSet(("b", "d"), ("c",), updates=1), TrainingSet(("a",), ("e",), 0, ("a",), ("g",)))
    assert grown == TrainingSet(("a", "b", "d"), ("c", "e"), 2, ("a", "b", "d"), ("c", "g"))
    assert grown.sha256 == TrainingSet(("e", "d", "c"), ("b", "a")).sha256


def test_a_threshold_is_replaced_only_by_one_that_promises_no_less(make_features, blocks):
    bank = fit_bank(make_features(blocks[:6]), Identity(_DIM), SETTINGS)
    old = calibrate(make_features(blocks[6:9]), list("abc"), Identity(_DIM), bank, SETTINGS)
    few, enough, none = (make_features(part) for part in (blocks[9:11], blocks[9:12], blocks[:0]))
    groups = [], ["d", "e"], ["d", "d", "e"], ["d", "e", "f"]
    assert [can_recalibrate(old, held) for held in groups] == [False, False, False, True]
    assert [can_recalibrate(None, held) for held in groups[:2]] == [False, True]
    carried = recalibrate(old, few, ["d", "e"], Identity(_DIM), bank, SETTINGS)
    assert carried.carried_over
    assert carried.threshold == old.threshold
    anew = recalibrate(old, enough, list("def"), Identity(_DIM), bank, SETTINGS)
    assert anew == calibrate(enough, list("def"), Identity(_DIM), bank, SETTINGS)
    assert not anew.carried_over
    assert recalibrate(None, none, [], Identity(_DIM), bank, SETTINGS) is None


@pytest.mark.parametrize(
    ("mode", "enabled", "message"),
    [("thaw", True, "'thaw' is none of frozen, fine-tune"), ("fine-tune", False, "plain PatchCore")],
)
def test_what_cannot_be_done_is_refused(mode, enabled, message):
    settings = load_settings(None, {"modulation.enabled": enabled})
    with pytest.raises(SettingsError, match=message):
        check_mode(mode, settings)
