"""The detector on tiny images with the real embedded weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.errors import DataError, ModelError, SettingsError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.model.nearest_neighbours import NearestNeighbours

TINY = {
    "features.image_size": 64,
    "modulation.steps": 20,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.3,
    "threads": 1,
}


def _texture(rng, spoil=False):
    image = rng.normal(128, 12, (64, 64, 1)).repeat(3, axis=2)
    if spoil:
        image[20:40, 20:40] = [250, 20, 20]
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(_texture(rng)).save(root / f"good-{i:02}.png")
    Image.fromarray(_texture(rng, spoil=True)).save(root / "bad.png")
    return root


@pytest.fixture(scope="module")
def good(images):
    return sorted(images.glob("good-*.png"))


@pytest.fixture(scope="module")
def detector(good):
    return ReConPatch(params=TINY).fit(good[:10])


def test_a_defect_stands_out_where_it_is(detector, images, good):
    *nominal, defect = detector.predict([*good[10:], images / "bad.png"])
    assert defect.is_anomalous is True
    assert defect.score > 2 * max(p.score for p in nominal)
    assert defect.anomaly_map.shape == (64, 64)
    assert defect.anomaly_map.dtype == np.float32
    row, column = np.unravel_index(defect.anomaly_map.argmax(), (64, 64))
    assert 16 <= row <= 44
    assert 16 <= column <= 44


def test_save_and_load_predict_alike(detector, images, tmp_path):
    detector.save(tmp_path / "m")
    loaded = ReConPatch.load(tmp_path / "m", threads=1)
    before, after = detector.predict(images / "bad.png")[0], loaded.predict(images / "bad.png")[0]
    assert before.score == after.score
    assert after.is_anomalous is True
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)


def test_device_cpu_keeps_off_the_gpu(good, tmp_path, monkeypatch):
    """In the fit, its calibration and a loaded detector, where there is a GPU."""
    asked = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "reconpatch.model.nearest_neighbours.gpu_index", lambda _, device: asked.append(device.index)
    )
    ReConPatch(params=TINY | {"device": "cpu"}).fit(good[:10]).save(tmp_path / "m")
    ReConPatch.load(tmp_path / "m", device="cpu", threads=1).predict(good[11])
    assert asked == []
    bank = ReConPatch.load(tmp_path / "m", device="cpu").parts.bank
    monkeypatch.setattr(NearestNeighbours, "to", lambda self, _: self)  # no GPU is here
    bank.to(torch.device("cuda:2")).search(bank.vectors[:1])
    assert asked == [2]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(detector, good, tmp_path):
    detector.save(tmp_path / "a")
    ReConPatch(params=TINY).fit(good[:10]).save(tmp_path / "b")
    ReConPatch(params=TINY | {"seed": 1}).fit(good[:10]).save(tmp_path / "c")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "bank.safetensors",
        "calibration.json",
        "config.json",
        "head.safetensors",
        "held_out.parquet",
        "training_set.json",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    banks = [(tmp_path / folder / "bank.safetensors").read_bytes() for folder in "ac"]
    assert banks[0] != banks[1]


def test_a_cache_changes_nothing_but_the_work(detector, good, images, tmp_path):
    cached = ReConPatch(params=TINY, cache=tmp_path / "cache").fit(good[:10])
    np.testing.assert_array_equal(cached.parts.bank.vectors, detector.parts.bank.vectors)
    for _ in range(2):
        ours = [p.score for p in cached.predict([images / "bad.png", good[11]])]
        assert ours == [p.score for p in detector.predict([images / "bad.png", good[11]])]


def test_the_cache_is_kept_below_its_bound(good, tmp_path):
    bound = {"pipeline.cache_max_gib": 4 * 64 * 152 * 2 / 2**30}
    bounded = ReConPatch(params=TINY | bound, cache=tmp_path / "cache").fit(good[:10])
    stored = [path.stat().st_size for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert 0 < sum(stored) <= 4 * 64 * 152 * 2
    own = FeatureCache(tmp_path / "own")
    unbounded = ReConPatch(params=TINY, cache=own).fit(good[:10])
    assert len([path for path in own.root.rglob("*") if path.is_file()]) == 10
    np.testing.assert_array_equal(bounded.parts.bank.vectors, unbounded.parts.bank.vectors)


def test_paths_arrays_and_pil_images_are_equal(detector, images):
    path = images / "bad.png"
    picture = Image.open(path)
    scores = [p.score for p in detector.predict([path, np.asarray(picture), picture])]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    assert scores[0] == pytest.approx(scores[2], rel=1e-6)
    assert detector.predict(picture)[0].path is None


def test_a_grey_image_scores_as_its_rgb_copy_does(detector, images, tmp_path):
    grey = Image.open(images / "bad.png").convert("L")
    grey.save(tmp_path / "grey.png")
    forms = [grey.convert("RGB"), grey, np.asarray(grey), np.asarray(grey)[..., None], tmp_path / "grey.png"]
    assert len({prediction.score for prediction in detector.predict(forms)}) == 1


def test_what_is_no_image_is_named_by_its_place_with_what_is_accepted(detector, images):
    path = images / "bad.png"
    with pytest.raises(DataError, match=r"the image is of type bytes; .*BytesIO"):
        detector.predict(path.read_bytes())
    with pytest.raises(DataError, match="the image is None; give paths"):
        detector.predict(None)
    with pytest.raises(DataError, match="image 1 of the list is None; give paths"):
        detector.predict([path, None])
    with pytest.raises(DataError, match="image 0 of the list is of type bytes"):
        detector.predict([path.read_bytes(), path])


def test_a_fit_takes_paths_and_says_so(images):
    picture = np.asarray(Image.open(images / "bad.png"))
    for wrong in ([images / "bad.png", picture], [images / "bad.png", None]):
        with pytest.raises(DataError, match=r"image 1 of the list is of type .*; give a category folder"):
            ReConPatch(params=TINY).fit(wrong)
    for wrong in (picture, b"bytes", None):
        with pytest.raises(DataError, match="give a category folder, a list of paths"):
            ReConPatch(params=TINY).fit(wrong)


def test_a_score_does_not_depend_on_its_neighbours(detector, images, good):
    alone = detector.predict(images / "bad.png")[0].score
    among = detector.predict([*good, images / "bad.png"])[-1].score
    assert alone == among


def test_patchcore_is_the_same_detector_without_modulation(good):
    plain = ReConPatch(params=TINY | {"modulation.enabled": False}).fit(good[:10])
    assert plain.parts.modulation.dim == 152
    assert plain.parts.bank.dim == plain.extractor.dim


def test_too_few_groups_leave_it_uncalibrated(good):
    detector = ReConPatch(params=TINY).fit(good[:1])
    assert detector.threshold is None
    assert detector.predict(good[1])[0].is_anomalous is None


def test_unfitted():
    with pytest.raises(ModelError, match="is not fitted"):
        ReConPatch().predict("a.png")


def test_unknown_parameter():
    with pytest.raises(SettingsError, match=r"did you mean `features\.backbone`"):
        ReConPatch(params={"features.backbon": "x"})


def test_a_truncated_image_is_named(detector, images, tmp_path):
    data = (images / "bad.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"cut\.png"):
        detector.predict(tmp_path / "cut.png")
    with pytest.raises(DataError, match=r"cut\.png"):
        ReConPatch(params=TINY).fit([tmp_path / "cut.png"])


def test_other_weights_are_refused(detector, tmp_path, images):
    import json

    detector.save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text())
    config["backbone"]["weights_sha256"] = "f" * 64
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="weights found here"):
        ReConPatch.load(tmp_path / "m").predict(images / "bad.png")
