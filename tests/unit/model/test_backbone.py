from concurrent.futures import ThreadPoolExecutor

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reconpatch.errors import ModelError
from reconpatch.model.backbone import load_backbone
from reconpatch.settings import FeatureSettings


def parameters(name, file, levels=(1, 2), size=64):
    return FeatureSettings(backbone=name, weights=file, levels=levels, image_size=size)


def example(size=64):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet", "test_mambaout", "mobilenetv3_small_050"]
)
def test_levels_are_those_of_timm_with_the_files_weights(weight_file, name):
    path = weight_file(name)
    backbone = load_backbone(parameters(name, path))
    reference = timm.create_model(
        name, features_only=True, pretrained=True, pretrained_cfg_overlay={"state_dict": load_file(path)}
    ).eval()
    with torch.inference_mode():
        expected = reference(example())[1:3]
        levels = backbone(example())
    if name == "test_mambaout":
        expected = [level.permute(0, 3, 1, 2) for level in expected]
    assert len(levels) == 2
    for level, wanted in zip(levels, expected, strict=True):
        assert level.shape == wanted.shape
        assert (level - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_the_default_backbone_gives_strides_8_and_16():
    backbone = load_backbone(FeatureSettings(image_size=96))
    assert [tuple(level.shape) for level in backbone(example(96))] == [(2, 40, 12, 12), (2, 112, 6, 6)]
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


def test_the_backbone_is_frozen_folded_and_cut(weight_file):
    backbone = load_backbone(parameters("test_efficientnet", weight_file("test_efficientnet"), levels=(0, 1)))
    whole = timm.create_model("test_efficientnet", features_only=True)
    count = sum(parameter.numel() for parameter in whole.parameters())
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in backbone.modules())
    assert sum(parameter.numel() for parameter in backbone.parameters()) < count / 2


def test_levels_come_from_fine_to_coarse_and_once(weight_file):
    path = weight_file("test_resnet")
    backbone = load_backbone(parameters("test_resnet", path, levels=(3, 1, 3)))
    assert [level.shape[1:] for level in backbone(example())] == [(32, 16, 16), (192, 4, 4)]


def test_an_unknown_name_suggests_the_right_one():
    with pytest.raises(ModelError, match=r"no model `resnet_50`; did you mean .*resnet50"):
        load_backbone(FeatureSettings(backbone="resnet_50"))


def test_an_unknown_tag_is_an_error():
    with pytest.raises(ModelError, match="Invalid pretrained tag"):
        load_backbone(FeatureSettings(backbone="resnet18.nobody"))


@pytest.mark.parametrize("levels", [(2, 5), (-1,)])
def test_a_level_out_of_range_names_the_valid_ones(weight_file, levels):
    with pytest.raises(ModelError, match=rf"has no level {levels[-1]}; its levels are: 0, 1, 2, 3, 4"):
        load_backbone(parameters("test_resnet", weight_file("test_resnet"), levels=levels))


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_never_filled_up(weight_file, tmp_path, fault):
    tensors = load_file(weight_file("test_resnet"))
    if fault == "missing":
        del tensors["layer1.0.conv1.weight"]
    elif fault == "unexpected":
        tensors["layer9.weight"] = torch.zeros(1)
    else:
        tensors["layer1.0.conv1.weight"] = torch.zeros(2, 2)
    save_file(tensors, tmp_path / "odd.safetensors")
    name = r"layer9\.weight" if fault == "unexpected" else r"layer1\.0\.conv1\.weight"
    with pytest.raises(
        ModelError, match=rf"file odd\.safetensors\) do not fit backbone test_resnet: .*{name}"
    ):
        load_backbone(parameters("test_resnet", tmp_path / "odd.safetensors"))


def test_weights_of_another_model_do_not_fit(weight_file):
    with pytest.raises(ModelError, match="do not fit backbone test_efficientnet"):
        load_backbone(parameters("test_efficientnet", weight_file("test_resnet")))


def test_a_network_of_fixed_size_says_which(weight_file):
    with pytest.raises(ModelError, match=r"cannot take images of 64 x 64 .* set features.image_size to 160"):
        load_backbone(parameters("test_vit3", weight_file("test_vit3"), levels=(1,)))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "mobilenetv3_small_050"])
def test_loading_warns_of_nothing_in_several_threads_either(weight_file, caplog, recwarn, name):
    settings = parameters(name, weight_file(name))
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(load_backbone, [settings] * 3))
    assert not caplog.records
    assert not [warning for warning in recwarn if issubclass(warning.category, UserWarning)]


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("densenet201", (256, 512, 1792)),
        pytest.param("wide_resnet50_2", (256, 512, 1024), marks=pytest.mark.slow),
        pytest.param("wide_resnet101_2", (256, 512, 1024), marks=pytest.mark.slow),
        pytest.param("resnext101_32x8d", (256, 512, 1024), marks=pytest.mark.slow),
    ],
)
def test_the_papers_backbones_load_and_have_their_shapes(tmp_path, name, widths):
    save_file(timm.create_model(name).state_dict(), tmp_path / "weights.safetensors")
    backbone = load_backbone(parameters(name, tmp_path / "weights.safetensors", levels=(1, 2, 3)))
    with torch.inference_mode():
        levels = backbone(example())
    sides = (16, 8, 4)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (width, side, side) for width, side in zip(widths, sides, strict=True)
    ]
