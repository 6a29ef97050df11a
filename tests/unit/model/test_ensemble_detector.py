"""An ensemble is one detector: fitted on tiny images with real embedded weights at two sizes of level."""

import json

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch, load
from reconpatch.ensemble import Ensemble, fit_ensemble, fuse_members
from reconpatch.errors import ModelError
from reconpatch.features.feature_cache import FeatureCache

NETS = ("tf_efficientnet_lite0", "tf_efficientnet_lite1")
TINY = {
    "features.image_size": 64,
    "modulation.steps": 10,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.4,
    "threads": 1,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        pixels = rng.normal(128, 12, (64, 64, 1)).repeat(3, axis=2)
        if i == 11:
            pixels[20:40, 20:40] = [250, 20, 20]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{i:02}.png")
    return sorted(root.glob("*.png"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def ensemble(images, cache):
    return fit_ensemble(NETS, images[:10], ReConPatch(params=TINY, cache=cache))


def test_its_scores_are_the_mean_of_the_members_modified_z_scores(ensemble, images):
    fused = ensemble.predict(images[10:])
    expected_scores, expected_maps = np.zeros(2), np.zeros((2, 64, 64))
    for member in ensemble.members:
        of_scores, of_pixels = member.calibration.scores, member.calibration.pixels
        for i, one in enumerate(member.predict(images[10:])):
            expected_scores[i] += (one.score - of_scores.median) / (1.4826 * of_scores.mad) / 2
            expected_maps[i] += (one.anomaly_map - of_pixels.median) / (1.4826 * of_pixels.mad) / 2
    np.testing.assert_allclose([p.score for p in fused], expected_scores, rtol=1e-5)
    np.testing.assert_allclose([p.anomaly_map for p in fused], expected_maps, rtol=1e-4, atol=1e-4)
    assert fused[1].is_anomalous is True
    assert fused[1].path == str(images[11])


def test_its_threshold_comes_from_the_images_that_every_member_held_out(ensemble, images):
    held = [path for path in images[:10] if path in _held_paths(ensemble, images)]
    scores = [p.score for p in ensemble.predict(held)]
    assert ensemble.calibration.threshold.n == len(held) == 4
    assert ensemble.threshold == pytest.approx(max(scores), rel=1e-3)
    assert ensemble.calibration.scores.median == pytest.approx(np.median(scores), rel=1e-3)


def _held_paths(ensemble, images):
    from reconpatch.features.patch_features import image_digest

    return {path for path in images if image_digest(path) in ensemble.training_set.holdout}


def test_saved_and_loaded_like_any_detector(ensemble, images, tmp_path):
    ensemble.save(tmp_path / "m")
    ensemble.save(tmp_path / "m")  # over an earlier one
    loaded = load(tmp_path / "m", threads=1)
    assert isinstance(loaded, Ensemble)
    before, after = ensemble.predict(images[11])[0], loaded.predict(images[11])[0]
    assert before.score == after.score
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["kind"] == "ensemble"
    assert config["backbone"]["name"] == "+".join(NETS)


@pytest.mark.parametrize("name", ["calibration.json", "members/1/config.json", "members/0/bank.safetensors"])
def test_a_file_cut_short_is_named(ensemble, tmp_path, name):
    ensemble.save(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match=str(path.name)):
        load(tmp_path / "m")


def test_a_config_that_names_files_elsewhere_is_refused(ensemble, tmp_path):
    ensemble.save(tmp_path / "m")
    (tmp_path / "secret").write_text("x")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["files"]["../secret"] = "0" * 64
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is not a file of a detector"):
        load(tmp_path / "m")


def test_members_that_do_not_belong_together_are_refused(ensemble, images, cache):
    first = ensemble.members[0]
    with pytest.raises(ModelError, match="at least two"):
        Ensemble([first], ensemble.calibration)
    others = ReConPatch(params=TINY, cache=cache).fit(images[:9])
    with pytest.raises(ModelError, match="other images"):
        Ensemble([first, others], ensemble.calibration)
    uncalibrated = ReConPatch(params=TINY | {"calibrate.holdout": 0}, cache=cache).fit(images[:10])
    with pytest.raises(ModelError, match="not calibrated"):
        fuse_members([first, uncalibrated], [])
    larger = ReConPatch(params=TINY | {"features.image_size": 96}, cache=cache).fit(images[:10])
    with pytest.raises(ModelError, match="image_size"):
        Ensemble([first, larger], ensemble.calibration)


def test_it_has_no_method_of_a_single_detector_that_it_cannot_keep(ensemble):
    assert not {"fit", "update", "parts"} & set(dir(ensemble))


def test_groups_that_share_an_image_count_once(images, cache, tmp_path):
    """Two names for each part, and one image that bears both."""
    lines = ["path,group"]
    for i, path in enumerate(images[:9]):
        both = (("a", f"A{i // 3}"), ("b", f"B{i // 3}"))
        for copy, group in both if i % 3 == 0 else both[:1]:
            (tmp_path / f"{i}{copy}.png").write_bytes(path.read_bytes())
            lines.append(f"{i}{copy}.png,{group}")
    (tmp_path / "groups.csv").write_text("\n".join(lines) + "\n")
    fitted = fit_ensemble(NETS, tmp_path, ReConPatch(params=TINY, cache=cache))
    counts = [member.calibration.threshold.n for member in fitted.members]
    assert counts == [1, 1]
    assert fitted.calibration.threshold.n == 1
    for one in (fitted, *fitted.members):
        assert one.calibration.held_out["group"].nunique() == 1
