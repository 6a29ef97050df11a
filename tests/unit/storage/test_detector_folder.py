import json
from dataclasses import replace

import numpy as np
import pytest

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.data.training_images import TrainingSet
from reconpatch.errors import ModelError
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Identity
from reconpatch.settings import load_settings
from reconpatch.storage.detector_folder import FittedParts, read_model, write_model
from reconpatch.storage.detector_schema import BackboneReference
from reconpatch.storage.detector_settings import add_weights
from reconpatch.training.training_loop import train_modulation

_TRAINING_SET = TrainingSet(
    fit=("1" * 64, "3" * 64), holdout=("2" * 64,), updates=4, fit_groups=("a", "b"), holdout_groups=("c",)
)


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    settings = load_settings(None, ["modulation.dim=6", "modulation.steps=2", "modulation.batch_size=16"])
    features = rng.normal(size=(64, 4)).astype(np.float16)
    trained = train_modulation(features, settings.modulation, seed=0, device="cpu")
    bank = MemoryBank(trained.modulation.transform(features)[:8])
    calibration = calibrate_scores(rng.random(30), rng.random(300), rng.random(30))
    reference = BackboneReference("tf_efficientnet_lite0", "0" * 64, "test")
    return FittedParts(settings, reference, trained.modulation, bank, calibration, _TRAINING_SET)


def test_round_trip(tmp_path, parts):
    write_model(tmp_path / "m", parts)
    loaded = read_model(tmp_path / "m")
    np.testing.assert_array_equal(loaded.bank.vectors, parts.bank.vectors)
    x = np.ones((3, 4), dtype=np.float32)
    np.testing.assert_array_equal(loaded.modulation.transform(x), parts.modulation.transform(x))
    assert loaded.calibration == parts.calibration
    assert loaded.backbone == parts.backbone
    assert loaded.training_set == parts.training_set
    assert loaded.settings.modulation == parts.settings.modulation


def test_plain_patchcore_has_no_head(tmp_path, parts):
    plain = FittedParts(
        parts.settings, parts.backbone, Identity(parts.bank.dim), parts.bank, None, _TRAINING_SET
    )
    write_model(tmp_path / "m", plain)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "bank.safetensors",
        "config.json",
        "training_set.json",
    ]
    loaded = read_model(tmp_path / "m")
    assert isinstance(loaded.modulation, Identity)
    assert loaded.calibration is None


def test_equal_detectors_are_equal_bytes_whatever_the_machine(tmp_path, parts):
    machine = {"device": "cpu", "threads": 3, "pipeline.concurrency": 7, "ingest.inbox": "elsewhere"}
    other = load_settings(None, machine, base=parts.settings)
    write_model(tmp_path / "a", parts)
    write_model(tmp_path / "b", FittedParts(other, *list(vars(parts).values())[1:]))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def _with_weights(parts, file):
    settings = load_settings(None, {"features.weights": str(file)}, base=parts.settings)
    return replace(parts, settings=settings)


def test_weights_that_travel_are_named_without_their_place(tmp_path, parts):
    for person in ("ann", "bob"):
        file = tmp_path / person / "weights" / "w.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"weights")
        write_model(tmp_path / person / "m", _with_weights(parts, file))
    config = (tmp_path / "ann/m/config.json").read_bytes()
    assert config == (tmp_path / "bob/m/config.json").read_bytes()
    loaded = read_model(tmp_path / "ann/m")
    assert loaded.settings.features.weights == tmp_path / "ann/m/weights/w.safetensors"
    write_model(tmp_path / "again", loaded)
    assert (tmp_path / "again/config.json").read_bytes() == config
    assert (tmp_path / "again/weights/w.safetensors").read_bytes() == b"weights"


def test_the_place_of_weights_that_do_not_travel_is_kept_until_they_do(tmp_path, parts):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    write_model(tmp_path / "m", _with_weights(parts, file))
    assert read_model(tmp_path / "m").settings.features.weights == file
    # As the registry does, and as folders of earlier versions are: the whole path is in config.json.
    add_weights(tmp_path / "m", file)
    file.unlink()
    assert read_model(tmp_path / "m").settings.features.weights == tmp_path / "m/weights/w.safetensors"


@pytest.mark.parametrize(
    "name", ["bank.safetensors", "head.safetensors", "calibration.json", "training_set.json"]
)
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_cut_off_file_is_one_clear_error(tmp_path, parts, name, keep):
    write_model(tmp_path / "m", parts)
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=f"{name}: was cut short or altered"):
        read_model(tmp_path / "m")


def test_missing_file(tmp_path, parts):
    write_model(tmp_path / "m", parts)
    (tmp_path / "m" / "bank.safetensors").unlink()
    with pytest.raises(ModelError, match=r"bank\.safetensors: is missing"):
        read_model(tmp_path / "m")


def _edit(path, **changes):
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "schema version 99"),
        ({"files": {}}, "names no memory bank"),
        ({"files": {"bank.safetensors": "0" * 64}}, "names no training set"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "passwd, which is not a file of a detector"),
        ({"backbone": {"name": "x"}}, "does not describe a detector"),
        ({"settings": {"from_the_future": 1}}, "another version of reconpatch"),
    ],
)
def test_altered_config(tmp_path, parts, changes, message):
    write_model(tmp_path / "m", parts)
    _edit(tmp_path / "m" / "config.json", **changes)
    with pytest.raises(ModelError, match=message):
        read_model(tmp_path / "m")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_config_that_is_no_object(tmp_path, parts, text):
    write_model(tmp_path / "m", parts)
    (tmp_path / "m" / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_model(tmp_path / "m")


def test_no_folder_at_all(tmp_path):
    with pytest.raises(ModelError, match="is not a folder"):
        read_model(tmp_path / "absent")


def test_a_folder_of_something_else_is_never_replaced(tmp_path, parts):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"precious")
    for target in (tmp_path / "images", tmp_path / "images" / "a.png"):
        with pytest.raises(ModelError, match="is no detector folder"):
            write_model(target, parts)
    assert (tmp_path / "images" / "a.png").read_bytes() == b"precious"


def test_an_earlier_detector_and_an_empty_folder_are_replaced(tmp_path, parts):
    (tmp_path / "m").mkdir()
    for _ in range(2):
        write_model(tmp_path / "m", parts)
    assert len(read_model(tmp_path / "m").bank) == 8
