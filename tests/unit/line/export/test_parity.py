"""An exported graph says what the detector says, or is not written."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from reconpatch import ReConPatch
from reconpatch.ensemble import fuse_members
from reconpatch.errors import ModelError, SettingsError
from reconpatch.line.export.exported_folder import export_detector
from reconpatch.line.export.formats.format_registry import FORMATS
from reconpatch.line.export.formats.graph_format import GraphFormat
from reconpatch.line.export.parity import compare, native
from reconpatch.model.anomaly_model import float32_below

TINY = {
    "features.image_size": 64,
    "modulation.steps": 5,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.2,
    "calibrate.holdout": 0.4,
    "threads": 1,
    "device": "cpu",
}


def _texture(seed, spoiled=False):
    pixels = np.random.default_rng(seed).normal(128, 12, (64, 64, 3))
    if spoiled:
        pixels[20:40, 20:40] = [250, 20, 20]
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for seed in range(12):
        Image.fromarray(_texture(seed)).save(root / f"good-{seed:02}.png")
    for seed in range(3):
        Image.fromarray(_texture(seed, spoiled=True)).save(root / f"hole-{seed}.png")
    return sorted(root.iterdir())


def fit(images, **params):
    return ReConPatch(params=TINY | params).fit(images[:9])


@pytest.fixture(scope="module")
def detector(images):
    return fit(images)


@pytest.fixture(scope="module")
def exported(detector, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    return folder, export_detector(detector, "onnx", folder, images)


@pytest.mark.slow
def test_the_proof_covers_images_at_the_thresholds(exported, images):
    folder, parity = exported
    assert parity.proven
    assert (parity.images, parity.flips_outside, parity.beyond) == (len(images), (), ())
    assert parity.blends > 0
    assert parity.near >= parity.blends
    assert 0 < parity.score_difference < parity.tolerance
    assert json.loads((folder / "parity.json").read_text())["proven"] is True


def test_many_images_at_once_are_scored_as_one_by_one(exported, detector):
    run = FORMATS["onnx"].open(exported[0], 1)
    batch = np.stack([_texture(30), _texture(31, spoiled=True), _texture(32)])
    scores, maps, rejected = run(batch)
    for image, score, anomaly_map in zip(batch, scores, maps, strict=True):
        expected_score, expected_map = native(detector.module(), image)
        assert score == pytest.approx(expected_score, rel=1e-4)
        np.testing.assert_allclose(anomaly_map, expected_map, rtol=1e-3, atol=1e-3)
    assert rejected.tolist() == [score > detector.threshold for score in scores]
    assert rejected[1]


@pytest.mark.slow
def test_openvino(detector, images, tmp_path):
    parity = export_detector(detector, "openvino", tmp_path / "ov", images[-4:])
    assert parity.proven
    assert {path.name for path in (tmp_path / "ov").iterdir()} == {
        "model.xml", "model.bin", "detector.json", "parity.json",
    }  # fmt: skip


@pytest.mark.parametrize(
    "params",
    [
        {"modulation.enabled": False, "scoring.reweighting": "patch", "features.aggregation": "adaptive"},
        {"scoring.reweighting": "image", "features.image_size": 64, "features.resize": 72},
    ],
)
def test_every_kind_of_detector_as_a_torch_graph(images, params):
    detector = fit(images, **params)
    run = detector.module()

    def as_arrays(batch):
        with torch.no_grad():
            return [found.numpy() for found in run(torch.from_numpy(batch))[:3]]

    prepared = [(str(seed), _texture(seed, spoiled=seed > 45)) for seed in range(40, 50)]
    tolerance = 1e-3 * detector.threshold
    assert compare(detector, as_arrays, prepared, tolerance=tolerance).proven


def test_an_ensemble_as_a_torch_graph(images, detector):
    members = [detector, fit(images, **{"features.levels": [1, 2]})]
    ensemble = fuse_members(members, [member.held_out_features(images[:9]) for member in members])
    graph = ensemble.module()
    image = _texture(50, spoiled=True)
    with torch.no_grad():
        score, anomaly_map, rejected, to_review = graph(torch.from_numpy(image[None]))
    expected = ensemble.predict(image)[0]
    assert float(score) == pytest.approx(expected.score, rel=1e-3)
    np.testing.assert_allclose(anomaly_map[0].numpy(), expected.anomaly_map, rtol=1e-2, atol=1e-2)
    assert (bool(rejected), bool(to_review)) == (expected.band == "reject", expected.band == "review")


@pytest.fixture(scope="module")
def other_backbones(images, tmp_path_factory):
    """Detectors of other families of networks, whose weights are random: only whether graphs agree counts."""
    folder, made = tmp_path_factory.mktemp("weights"), {}
    for name in ("test_resnet", "test_convnext"):
        torch.manual_seed(0)
        save_file(timm.create_model(name).state_dict(), folder / f"{name}.safetensors")
        weights = {"features.backbone": name, "features.weights": str(folder / f"{name}.safetensors")}
        made[name] = fit(images, **weights, **{"features.levels": [1, 2]})
    return made


@pytest.mark.slow
def test_another_family_of_networks(other_backbones, images, tmp_path):
    assert export_detector(other_backbones["test_resnet"], "onnx", tmp_path / "graph", images[-4:]).proven


@pytest.mark.slow
def test_an_ensemble_is_proven_by_its_members_distances(other_backbones, images, tmp_path):
    members = list(other_backbones.values())
    ensemble = fuse_members(members, [member.held_out_features(images[:9]) for member in members])
    parity = export_detector(ensemble, "openvino", tmp_path / "graph", images[-4:])
    assert parity.proven
    assert parity.blends > 0
    at_threshold = sum(one.calibration.scores.median / one.calibration.scores.scale for one in members) / 2
    assert parity.tolerance == pytest.approx(1e-3 * (at_threshold + abs(ensemble.threshold)))


def toy_format(detector, factor=1.0):
    """A format whose graph is the detector itself, its scores times a factor."""

    def write(model, side, folder):
        (folder / "model.toy").write_text(f"{type(model).__name__} {side}")

    def run(batch):
        found = [native(detector.module(), image) for image in batch]
        scores = np.array([score * factor for score, _ in found], np.float32)
        return scores, np.stack([one for _, one in found]), scores > detector.threshold

    def run_of(folder, _):
        assert (folder / "model.toy").read_text().endswith(f" {detector.settings.features.image_size}")
        return run

    return GraphFormat(name="toy", title="Toy", write=write, open=run_of)


def test_a_graph_that_differs_is_not_written(detector, images, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "toy", toy_format(detector, 1.01))
    with pytest.raises(ModelError, match="the toy graph does not say what the detector says"):
        export_detector(detector, "toy", tmp_path / "wrong", images[-4:])
    assert not (tmp_path / "wrong").exists()


def test_a_format_is_added_by_an_entry(detector, images, tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "toy", toy_format(detector))
    assert export_detector(detector, "toy", tmp_path / "out", images[-4:]).proven
    assert json.loads((tmp_path / "out" / "parity.json").read_text())["format"] == "toy"
    with pytest.raises(SettingsError, match=r"tflite is unknown; choose one of onnx, openvino, toy"):
        export_detector(detector, "tflite", tmp_path / "out", images[-4:])


def test_flips_are_told_apart_by_the_tolerance(detector, images):
    threshold = detector.threshold

    def shifted(batch):
        score, anomaly_map = native(detector.module(), batch[0])
        score = 2 * threshold - score if abs(score - threshold) < 0.01 * threshold else score
        scores = np.array([score], np.float32)
        return scores, anomaly_map[None], scores > threshold

    prepared = [(path.name, np.asarray(Image.open(path))) for path in images]
    loose = compare(detector, shifted, prepared, tolerance=0.05 * threshold)
    assert loose.flips_inside
    assert loose.proven
    tight = compare(detector, shifted, prepared, tolerance=0.0)
    assert tight.flips_outside
    assert not tight.proven


def test_what_cannot_be_exported_or_overwritten(images, detector, tmp_path):
    with pytest.raises(ModelError, match="not calibrated"):
        export_detector(fit(images, **{"calibrate.holdout": 0}), "onnx", tmp_path / "a", images)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ModelError, match="no exported detector"):
        export_detector(detector, "onnx", tmp_path / "mine", images)


def test_float32_thresholds_decide_as_the_float64_one():
    for value in (11.42519474029541, 0.1, -3.3, 1e-9):
        below = np.float32(float32_below(value))
        assert float(below) <= value < float(np.nextafter(below, np.float32(np.inf)))


def test_the_runner_is_short_and_needs_three_packages(exported, detector, images):
    runner = exported[0] / "runner.py"
    assert len(runner.read_text().splitlines()) < 100
    hide = (
        "import sys\nclass H:\n def find_spec(self, name, path=None, target=None):\n"
        "  if name.partition('.')[0] in ('torch', 'reconpatch', 'scipy', 'pandas'): raise ImportError(name)\n"
        f"sys.meta_path.insert(0, H())\nsys.argv[0] = {str(runner)!r}\n"
        f"import runpy; runpy.run_path({str(runner)!r}, run_name='__main__')"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", hide, str(images[0]), str(images[-1]), "--threads", "1"],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    for (path, score, verdict), expected in zip(
        lines, detector.predict([images[0], images[-1]]), strict=True
    ):
        assert path == expected.path
        assert float(score) == pytest.approx(expected.score, rel=1e-2)
        assert (verdict == "anomalous") is expected.is_anomalous


@pytest.mark.slow
def test_the_runner_end_to_end_on_real_images(real_images, tmp_path):
    bottle = real_images / "mvtec" / "bottle"
    good = sorted((bottle / "train" / "good").iterdir())[:24]
    settings = {"features.image_size": 128, "calibrate.holdout": 0.4, "modulation.steps": 5}
    real = ReConPatch(params=TINY | settings).fit(good)
    shown = [*sorted((bottle / "test" / "good").iterdir())[:3]]
    shown += [sorted((bottle / "test" / kind).iterdir())[0] for kind in ("broken_large", "contamination")]
    assert export_detector(real, "onnx", tmp_path / "onnx", shown).proven
    done = subprocess.run(
        [sys.executable, tmp_path / "onnx" / "runner.py", *shown, "--maps", tmp_path / "maps"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    # The same name in several folders gets a number.
    maps = [tmp_path / "maps" / f"{name}.npy" for name in ("000", "001", "002", "000-1", "000-2")]
    for (path, score, verdict), one, expected in zip(lines, maps, real.predict(shown), strict=True):
        assert path == expected.path
        assert float(score) == pytest.approx(expected.score, rel=2e-2)
        assert verdict == {"accept": "good", "review": "good (review)", "reject": "anomalous"}[expected.band]
        assert np.abs(np.load(one) - expected.anomaly_map).max() < 0.05 * expected.anomaly_map.max()
    assert lines[-2][2] == "anomalous"


def test_the_runner_reads_awkward_images_as_the_library_does(exported, tmp_path):
    from reconpatch.data.images import read_image
    from reconpatch.model.preprocess import prepare_image
    from reconpatch.settings import FeatureSettings

    spec = importlib.util.spec_from_file_location("runner", exported[0] / "runner.py")
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    rng = np.random.default_rng(0)
    pictures = {
        "deep.png": Image.fromarray(rng.integers(0, 65536, (90, 70)).astype(np.uint16)),
        "deep.ppm": Image.fromarray(rng.integers(0, 65536, (90, 70)).astype(np.uint16)),
        "clear.png": Image.fromarray(rng.integers(0, 256, (90, 70, 4)).astype(np.uint8), "RGBA"),
        "grey.png": Image.fromarray(rng.integers(0, 256, (50, 170)).astype(np.uint8)),
        "palette.gif": Image.fromarray(rng.integers(0, 256, (90, 70)).astype(np.uint8)).convert("P"),
    }
    settings = FeatureSettings(image_size=64, resize=72)
    for name, picture in pictures.items():
        path = tmp_path / name.replace(".gif", ".png")
        picture.save(path)
        ours = prepare_image(read_image(path), settings)
        theirs = runner.prepare(path, {"image_size": 64, "resize": 72})[0]
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1, name
