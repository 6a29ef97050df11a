"""One model for all categories, on tiny images with real embedded weights."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch, load
from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError, ModelError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import image_digest
from reconpatch.model.modulation import Identity
from reconpatch.storage.detector_folder import read_training_set
from reconpatch.unified.unified_detector import Unified, fit_unified
from reconpatch.unified.unified_evaluation import evaluate_all, evaluate_category

TINY = {
    "features.image_size": 64,
    "modulation.steps": 20,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.3,
    "unified.validation": 0.2,
    "threads": 1,
}
# Grey level and noise: the second is so much noisier that its nominal distances are larger.
LOOKS = {"calm": (90, 4), "noisy": (160, 40)}
BANKS = ("per_category", "shared")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("plant")
    rng = np.random.default_rng(0)
    for name, (level, noise) in {**LOOKS, "unseen": (120, 20)}.items():
        place = root / ("new" if name == "unseen" else "known") / name
        for split, count in (("train/good", 10), ("test/good", 2), ("test/hole", 2)):
            (place / split).mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, noise, (64, 64, 1)).repeat(3, axis=2)
                if split == "test/hole":
                    pixels[20:40, 20:40] = [250, 20, 20]
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / split / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def fitted(root, cache):
    """Both kinds, by bank."""
    return {
        bank: fit_unified(root / "known", ReConPatch(params=TINY | {"unified.bank": bank}, cache=cache))
        for bank in BANKS
    }


def good(root, name):
    return sorted((root / "known" / name / "train/good").glob("*.png"))


def held_out(detector, images):
    return [path for path in images if image_digest(path) in detector.training_set.holdout]


@pytest.mark.parametrize("bank", BANKS)
def test_a_defect_of_each_category_stands_out(fitted, root, bank):
    for name in LOOKS:
        place = root / "known" / name / "test"
        paths = [*sorted((place / "good").glob("*")), *sorted((place / "hole").glob("*"))]
        *nominal, first, second = (p.score for p in fitted[bank].predict(paths, category=name))
        assert min(first, second) > max(nominal)


def test_both_kinds_have_the_same_f_and_banks_of_their_own_kind(fitted):
    separate, shared = (fitted[bank] for bank in BANKS)
    weights = [one.member_parts[0].modulation.weight.detach().numpy() for one in (separate, shared)]
    np.testing.assert_array_equal(*weights)
    own = [separate.of_category(name).parts.bank.vectors for name in LOOKS]
    np.testing.assert_array_equal(separate.member_parts[0].bank.vectors, np.concatenate(own))
    assert all(shared.of_category(name).parts.bank is shared.member_parts[0].bank for name in LOOKS)
    assert len(shared.member_parts[0].bank) == len(separate.member_parts[0].bank) == round(0.1 * 2 * 7 * 64)


@pytest.mark.parametrize("bank", BANKS)
def test_the_category_picks_the_threshold_and_an_unknown_one_gets_the_pooled(fitted, root, bank):
    detector = fitted[bank]
    everything = []
    for name in LOOKS:
        held = held_out(detector, good(root, name))
        own = detector.of_category(name)
        assert len(held) == own.calibration.threshold.n == 3
        assert own.threshold == pytest.approx(max(p.score for p in own.predict(held)), rel=1e-3)
        everything += [p.score for p in detector.predict(held)]
    assert detector.calibration.threshold.n == 6
    assert detector.threshold == pytest.approx(max(everything), rel=1e-3)
    if bank == "shared":
        # The noisy image that sets its category's threshold: good there, a defect by the other's.
        calm, noisy = (detector.of_category(name).threshold for name in LOOKS)
        assert calm < noisy
        held = held_out(detector, good(root, "noisy"))
        image = max(held, key=lambda path: detector.predict(path)[0].score)
        verdicts = [detector.predict(image, category=name)[0].is_anomalous for name in LOOKS]
        assert verdicts == [True, False]


def test_f_learns_from_every_category_and_its_losses_are_recorded(fitted, root, cache):
    history = fitted["shared"].history
    assert [record.step for record in history] == [20]
    assert history[0].ratio == pytest.approx(history[0].validation_loss / history[0].train_loss)
    alone = ReConPatch(params=TINY, cache=cache).fit(root / "known" / "calm").parts.modulation
    assert not np.allclose(alone.weight.detach(), fitted["shared"].member_parts[0].modulation.weight.detach())


def test_a_category_that_f_never_saw_gets_a_bank_of_its_own(fitted, root):
    one = fitted["shared"].fit_category(root / "new" / "unseen")
    assert type(one) is ReConPatch
    assert one.parts.modulation is fitted["shared"].member_parts[0].modulation
    assert len(one.parts.bank) == round(0.1 * 7 * 64)
    assert one.calibration.threshold.n == 3
    place = root / "new" / "unseen" / "test"
    nominal, defect = (one.predict(place / kind / "0.png")[0] for kind in ("good", "hole"))
    assert defect.score > nominal.score
    assert defect.is_anomalous is True


@pytest.mark.parametrize("bank", BANKS)
def test_saved_and_loaded_like_any_detector(fitted, root, tmp_path, bank):
    detector = fitted[bank]
    detector.save(tmp_path / "m")
    detector.save(tmp_path / "m")  # over an earlier one
    loaded = load(tmp_path / "m", threads=1)
    assert isinstance(loaded, Unified)
    assert loaded.categories == ("calm", "noisy")
    image = root / "known/noisy/test/hole/0.png"
    for category in (None, *LOOKS):
        before, after = detector.predict(image, category)[0], loaded.predict(image, category)[0]
        assert (before.score, before.is_anomalous) == (after.score, after.is_anomalous)
        np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    for name in LOOKS:
        assert len(loaded.of_category(name).calibration.held_out) == 3
    assert loaded.training_set == detector.training_set
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["kind"] == "unified"
    banks = sorted(path.relative_to(tmp_path / "m").as_posix() for path in tmp_path.rglob("bank.*"))
    expected = ["bank.safetensors"]
    if bank == "per_category":
        expected = ["categories/0/bank.safetensors", "categories/1/bank.safetensors"]
    assert banks == expected


def test_the_same_images_in_any_order_give_the_same_bytes(fitted, root, cache, tmp_path):
    images = {name: root / "known" / name for name in reversed(LOOKS)}
    again = fit_unified(images, ReConPatch(params=TINY | {"unified.bank": "shared"}, cache=cache))
    fitted["shared"].save(tmp_path / "a")
    again.save(tmp_path / "b")
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 10
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


@pytest.mark.parametrize(
    "name",
    [
        "head.safetensors",
        "calibration.json",
        "categories/1/bank.safetensors",
        "categories/0/training_set.json",
    ],
)
def test_a_file_cut_short_is_named(fitted, tmp_path, name):
    fitted["per_category"].save(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelError, match=path.name):
        load(tmp_path / "m")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config["files"].update({"../secret": "0" * 64}), "is not a file of a detector"),
        (lambda config: config["files"].pop("categories/0/bank.safetensors"), "categories/0/bank"),
        (lambda config: config.pop("categories"), "names no categories"),
        (lambda config: config["settings"]["unified"].update(bank="none"), "unified.bank"),
        (lambda config: config.update(categories=[]), "names no categories"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(fitted, tmp_path, edit, message):
    fitted["per_category"].save(tmp_path / "m")
    (tmp_path / "secret").write_text("x")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    edit(config)
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "m")


def test_the_detector_of_a_category_is_a_folder_of_its_own(fitted, root, tmp_path):
    one = fitted["per_category"].of_category("noisy")
    one.save(tmp_path / "noisy")
    loaded = load(tmp_path / "noisy", threads=1)
    assert type(loaded) is ReConPatch
    image = root / "known/noisy/test/hole/1.png"
    assert loaded.predict(image)[0].score == one.predict(image)[0].score
    loaded.update([root / "new/unseen/train/good/0.png", root / "new/unseen/train/good/1.png"])
    assert len(loaded.training_set) == 12


def test_a_folder_tells_its_training_images_without_the_banks_being_read(fitted, tmp_path):
    for bank in BANKS:
        fitted[bank].save(tmp_path / bank)
        assert read_training_set(tmp_path / bank) == fitted[bank].training_set


def test_figures_of_the_whole_are_of_no_told_category_and_name_each(fitted, root):
    detector = fitted["shared"]
    tables = {name: build_manifest(root / "known" / name, detector.settings.data) for name in LOOKS}
    whole, named = evaluate_all(detector, tables, root / "known", detector.settings)
    assert whole.category == "all"
    found = dict(zip(whole.table["path"], whole.table["score"], strict=True))
    assert len(found) == 8
    image = "noisy/test/hole/1.png"
    assert found[image] == pytest.approx(detector.predict(root / "known" / image)[0].score, rel=1e-5)
    assert whole.metrics["threshold"] == detector.threshold
    for name in LOOKS:
        own = evaluate_category(detector, name, tables[name], detector.settings).metrics
        assert named[name].metrics == own
        for key in ("image_auroc", "aupro_low", "detection_rate"):
            assert whole.metrics.get(f"{name}.{key}") == own.get(key)
        assert f"{name}.n_test" not in whole.metrics
    assert whole.metrics["mean_aupro"] is None
    assert whole.not_available["mean_aupro"] == "not available of calm, noisy"  # there are no masks
    auroc = [named[name].metrics["image_auroc"] for name in LOOKS]
    assert whole.metrics["mean_image_auroc"] == pytest.approx(np.mean(auroc))


def test_a_region_of_interest_is_the_categorys_own(root, cache, tmp_path):
    images = {name: tmp_path / name for name in LOOKS}
    for name, place in images.items():
        shutil.copytree(root / "known" / name, place)
    inside = np.zeros((64, 64), np.uint8)
    inside[:, 32:] = 255
    Image.fromarray(inside).save(images["calm"] / "roi.png")
    made = fit_unified(images, ReConPatch(params=TINY, cache=cache))
    made.save(tmp_path / "m")
    loaded = load(tmp_path / "m", threads=1)
    assert loaded.of_category("calm").region == made.of_category("calm").region
    assert loaded.of_category("noisy").region is None
    outside = images["calm"] / "train/good/0.png"
    found = loaded.predict(outside, category="calm")[0].anomaly_map
    assert (found[:, :28] == 0).all()
    assert (loaded.predict(outside)[0].anomaly_map[:, :28] > 0).any()


@pytest.mark.parametrize("category", ["calm", None])
def test_evaluated_like_any_detector(fitted, root, category):
    detector = fitted["shared"]
    table = build_manifest(root / "known/calm", detector.settings.data)
    found = evaluate_category(detector, category, table, detector.settings)
    assert found.metrics["image_auroc"] == 1.0
    expected = detector if category is None else detector.of_category(category)
    assert found.metrics["threshold"] == expected.threshold


def test_an_evaluation_on_an_image_that_trained_f_for_another_category_is_refused(fitted, root, tmp_path):
    (tmp_path / "calm/train/good").mkdir(parents=True)
    (tmp_path / "calm/test/good").mkdir(parents=True)
    (tmp_path / "calm/train/good/0.png").write_bytes(good(root, "calm")[0].read_bytes())
    (tmp_path / "calm/test/good/0.png").write_bytes(good(root, "noisy")[0].read_bytes())
    detector = fitted["per_category"]
    table = build_manifest(tmp_path / "calm", detector.settings.data)
    with pytest.raises(DataError, match="same content"):
        evaluate_category(detector, "calm", table, detector.settings)


def test_patchcore_of_all_categories_has_no_f(root, cache, tmp_path):
    plain = fit_unified(root / "known", ReConPatch(params=TINY | {"modulation.enabled": False}, cache=cache))
    assert plain.history == ()
    plain.save(tmp_path / "m")
    assert not (tmp_path / "m/head.safetensors").exists()
    assert isinstance(load(tmp_path / "m", threads=1).member_parts[0].modulation, Identity)


def test_nothing_held_out_means_not_calibrated(root, cache, tmp_path):
    made = fit_unified(root / "known", ReConPatch(params=TINY | {"calibrate.holdout": 0}, cache=cache))
    made.save(tmp_path / "m")
    loaded = load(tmp_path / "m", threads=1)
    image = root / "known/calm/test/hole/0.png"
    assert [p.is_anomalous for name in (None, "calm") for p in loaded.predict(image, name)] == [None, None]


def test_what_cannot_be_is_refused_with_a_reason(fitted, root, cache):
    unfitted = ReConPatch(params=TINY, cache=cache)
    with pytest.raises(DataError, match="two categories or more"):
        fit_unified({"calm": root / "known/calm"}, unfitted)
    with pytest.raises(DataError, match="also an image of category calm"):
        fit_unified({"calm": root / "known/calm", "twin": good(root, "calm")[:4]}, unfitted)
    with pytest.raises(SettingsError, match="crossfit"):
        fit_unified(
            root / "known", ReConPatch(params=TINY | {"calibrate.calibration": "crossfit"}, cache=cache)
        )
    with pytest.raises(SettingsError, match=r"category calm.*hold out 99"):
        fit_unified(
            root / "known", ReConPatch(params=TINY | {"calibrate.false_reject_rate": 0.01}, cache=cache)
        )
    detector = fitted["shared"]
    with pytest.raises(DataError, match=r"calm.*\.png: has trained f"):
        detector.fit_category(root / "known/calm")
    with pytest.raises(ModelError, match="it knows calm, noisy"):
        detector.predict(root / "known/calm/test/hole/0.png", category="bottle")
    assert not {"fit", "update"} & set(dir(detector))
