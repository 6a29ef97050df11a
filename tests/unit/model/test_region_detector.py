"""Regions of interest and tiles through the whole detector: fit, map, update, disk, export, stages."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.data.manifest import build_manifest, write_manifest
from reconpatch.ensemble import fuse_members
from reconpatch.errors import ModelError
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.line.export.exported_folder import export_detector
from reconpatch.line.export.parity import compare
from reconpatch.settings import load_settings
from tasks.running.stage_folders import Job

NET = "tf_efficientnet_lite0"
SIDE = 96
TINY = {
    "features.image_size": SIDE,
    "modulation.steps": 10,
    "modulation.batch_size": 64,
    "modulation.dim": 32,
    "coreset.ratio": 0.1,
    "calibrate.holdout": 0.4,
    "threads": 1,
    "device": "cpu",
}
TILES = {"features.tile": 64, "features.tile_overlap": 32}
INSIDE = np.zeros((SIDE, SIDE), bool)
INSIDE[:, SIDE // 2 :] = True


def texture(seed, spot=None, junk=True):
    """Calm on the right; on the left, where nothing counts, something else every time."""
    random = np.random.default_rng(seed)
    image = random.normal(128, 10, (SIDE, SIDE, 3))
    if junk:
        image[:, : SIDE // 2] = random.integers(0, 256, (6, 3, 3)).repeat(16, axis=0).repeat(16, axis=1)
    if spot is not None:
        image[40:56, spot : spot + 16] = [250, 20, 20]
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def category(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "nut"
    for where, images in {
        "train/good": [texture(seed) for seed in range(10)],
        "test/good": [texture(seed) for seed in range(20, 24)],
        "test/inside": [texture(seed, spot=70) for seed in range(30, 33)],
        "test/outside": [texture(40, spot=10)],
    }.items():
        (root / where).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(root / where / f"{number}.png")
    for kind, left, count in (("inside", 70, 3), ("outside", 10, 1)):
        (root / "ground_truth" / kind).mkdir(parents=True)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[40:56, left : left + 16] = 255
        for number in range(count):
            Image.fromarray(mask).save(root / "ground_truth" / kind / f"{number}_mask.png")
    Image.fromarray(INSIDE.astype(np.uint8) * 255).save(root / "roi.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def detector(category, cache):
    return ReConPatch(params=TINY, cache=cache).fit(category)


@pytest.fixture(scope="module")
def tiled(category, cache):
    return ReConPatch(params=TINY | TILES | {"scoring.reweighting": "image"}, cache=cache).fit(category)


@pytest.fixture(params=["detector", "tiled"])
def either(request):
    return request.getfixturevalue(request.param)


def test_what_lies_outside_changes_no_score_and_shows_on_no_map(either):
    good, outside, inside = either.predict([texture(50), texture(50, spot=8), texture(50, spot=70)])
    assert inside.band == "reject"
    assert good.band != "reject"
    # The network sees further than a patch, so what lies near shines in a little.
    assert abs(outside.score - good.score) < 0.1 * (inside.score - good.score)
    for prediction in (good, outside, inside):
        assert (prediction.anomaly_map[~INSIDE] == 0).all()
        assert (prediction.anomaly_map[INSIDE] > 0).all()
    row, column = np.unravel_index(inside.anomaly_map.argmax(), (SIDE, SIDE))
    assert 32 <= row < 64
    assert 62 <= column < 94


def test_the_bank_holds_patches_from_inside_alone(category, cache):
    paths = sorted((category / "train" / "good").iterdir())
    plain = ReConPatch(params=TINY | {"modulation.enabled": False}, cache=cache).fit(category)
    grids = np.stack([plain.extractor(np.asarray(Image.open(path))[None])[0] for path in paths])
    grids = grids.reshape(len(paths), 12, 12, -1).astype(np.float32)
    inside, outside = (
        {row.tobytes() for row in part.reshape(-1, 152)} for part in (grids[:, :, 6:], grids[:, :, :6])
    )
    bank = {row.tobytes() for row in plain.parts.bank.vectors}
    assert len(bank) == round(0.1 * 6 * 12 * 6)
    assert bank <= inside
    assert not bank & outside


def test_a_region_of_everything_is_no_region(category, cache, tmp_path):
    paths = sorted((category / "train" / "good").iterdir())
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "all.png")
    whole = ReConPatch(params=TINY, cache=cache).fit(paths)
    same = ReConPatch(params=TINY, cache=cache).fit(paths, region=tmp_path / "all.png")
    np.testing.assert_array_equal(same.parts.bank.vectors, whole.parts.bank.vectors)
    assert same.threshold == whole.threshold
    ours, theirs = (one.predict(texture(50, spot=70))[0] for one in (same, whole))
    assert ours.score == theirs.score
    np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, rtol=1e-5)


def test_it_is_saved_loaded_and_kept_by_an_update(either, tmp_path):
    either.save(tmp_path / "m")
    loaded = ReConPatch.load(tmp_path / "m", device="cpu", threads=1)
    assert loaded.region == either.region
    image = texture(51, spot=70)
    before, after = either.predict(image)[0], loaded.predict(image)[0]
    assert before.score == after.score
    np.testing.assert_array_equal(before.anomaly_map, after.anomaly_map)
    for seed in (60, 61):
        Image.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    loaded.update([tmp_path / "60.png", tmp_path / "61.png"])
    assert loaded.region == either.region
    assert (loaded.predict(image)[0].anomaly_map[~INSIDE] == 0).all()
    path = tmp_path / "m" / "region.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ModelError, match=r"region\.json: was cut short or altered"):
        ReConPatch.load(tmp_path / "m")


def test_pixel_metrics_know_only_what_counts(detector, category):
    settings = detector.settings
    found = evaluate(detector, build_manifest(category, settings.data), settings)
    assert found.metrics["n_test_pixel"] == 7
    assert found.metrics["n_test_without_mask"] == 1  # the defect outside
    counted = sum(part.sum() for part in (found.pixels.nominal, found.pixels.defective))
    assert counted == 7 * INSIDE.sum()
    assert found.pixels.defective.sum() == 3 * 16 * 16
    # Where the map is 0 everywhere outside, counting it would only flatter.
    assert found.metrics["pixel_auroc"] > 0.9


def test_members_must_look_at_the_same_region(detector, category, cache):
    paths = sorted((category / "train" / "good").iterdir())
    other = ReConPatch(params=TINY | {"features.levels": [1, 2]}, cache=cache)
    members = [detector, other.fit(category)]
    ensemble = fuse_members(members, [member.held_out_features(category) for member in members])
    one = ensemble.predict(texture(50, spot=70))[0]
    assert one.band == "reject"
    assert one.anomaly_map[~INSIDE].max() < one.anomaly_map[INSIDE].min()
    whole = ReConPatch(params=TINY | {"features.levels": [1, 2]}, cache=cache).fit(paths)
    with pytest.raises(ModelError, match="other regions of interest"):
        fuse_members([detector, whole], [one.held_out_features(category) for one in (detector, whole)])


@pytest.mark.slow
def test_as_a_torch_graph(either):
    graph = either.module()

    def as_arrays(batch):
        with torch.no_grad():
            return [found.numpy() for found in graph(torch.from_numpy(batch))[:3]]

    images = [(str(seed), texture(seed, spot=70 if seed > 75 else None)) for seed in range(70, 80)]
    parity = compare(either, as_arrays, images, tolerance=1e-3 * either.threshold)
    assert parity.proven
    assert parity.map_difference < 1e-2 * either.threshold


@pytest.mark.slow
def test_as_an_onnx_graph(tiled, category, tmp_path):
    images = sorted(category.glob("test/*/*.png"))
    assert export_detector(tiled, "onnx", tmp_path / "graph", images).proven


def test_the_stages_make_the_same_detector(detector, category, tmp_path):
    settings = load_settings(
        None, TINY | {"pipeline.root": str(category.parent), "pipeline.categories": ["nut"]}
    )
    job = Job(settings, "nut", NET, tmp_path, tmp_path / "outputs")
    table = build_manifest(category, settings.data)
    assert table.attrs["strays"] == []
    job.folder("validate").mkdir(parents=True)
    write_manifest(table, job.folder("validate") / "manifest.parquet")
    for stage in ("features", "train", "coreset", "calibrate"):
        job.folder(stage).mkdir(parents=True)
        importlib.import_module(f"tasks.stages.{stage}").run(job, job.folder(stage))
    made = ReConPatch.load(job.folder("calibrate") / "model").parts
    np.testing.assert_array_equal(made.bank.vectors, detector.parts.bank.vectors)
    assert made.calibration == detector.calibration
    assert replace(made, bank=None, modulation=None, calibration=None).region == detector.region


def test_a_plain_folder_takes_its_mask_for_no_image(tmp_path):
    for seed in range(3):
        Image.fromarray(texture(seed)).save(tmp_path / f"{seed}.png")
    Image.new("L", (SIDE, SIDE), 255).save(tmp_path / "roi.png")
    table = build_manifest(tmp_path, load_settings(None, {}).data)
    assert table["path"].tolist() == ["0.png", "1.png", "2.png"]
    assert table.attrs["strays"] == []
