"""Presets are whole parameters, and their networks yield what the paper's table says."""

import pytest
import timm
import torch
import yaml

from reconpatch.errors import SettingsError
from reconpatch.model.backbone import load_backbone
from reconpatch.model.patches import aggregate_patches
from reconpatch.model.weights import Weights
from reconpatch.settings import Settings, describe_preset, load_settings, paper_figures, preset_names

PAPER = {
    # preset: (backbones, levels, patch size, image size, dim of f, learning rate, epochs)
    "wrn50-224": (["wide_resnet50_2"], (2, 3), 3, 224, 512, 1e-5, 120),
    "wrn50-224-segmentation": (["wide_resnet50_2"], (1, 2, 3), 5, 224, 512, 1e-5, 120),
    "wrn101-480": (["wide_resnet101_2"], (2, 3), 3, 480, 512, 1e-5, 120),
    "btad-480": (["wide_resnet101_2"], (2, 3), 3, 480, 512, 1e-5, 120),
    "ensemble-320": (["wide_resnet101_2", "resnext101_32x8d", "densenet201"], (2, 3), 3, 320, 384, 1e-6, 60),
    "ensemble-480": (["wide_resnet101_2", "resnext101_32x8d", "densenet201"], (2, 3), 3, 480, 384, 1e-6, 60),
}


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_describes_itself(name):
    settings = load_settings(preset=name)
    assert all(timm.is_model(backbone) for backbone in settings.pipeline.backbones)
    if not settings.pipeline.fuse and name != "paper-schedule":
        assert settings.pipeline.backbones == (settings.features.backbone,)
    assert describe_preset(name).endswith(".")


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_presets_state_its_values(name):
    settings = load_settings(preset=name)
    modulation = settings.modulation
    assert (
        list(settings.pipeline.backbones),
        settings.features.levels,
        settings.features.patch_size,
        settings.features.image_size,
        modulation.dim,
        modulation.learning_rate,
        modulation.epochs,
    ) == PAPER[name]
    assert (modulation.neighbours, modulation.alpha, modulation.margin, modulation.steps) == (
        5,
        0.5,
        1.0,
        None,
    )
    assert (settings.coreset.ratio, settings.scoring.reweighting) == (0.01, "patch")
    assert len(paper_figures(name)["mean"]) == 2


def test_the_schedule_alone_changes_the_training_alone():
    changed = load_settings(preset="paper-schedule")
    assert changed.model_copy(update={"modulation": Settings().modulation}) == Settings()
    assert (changed.modulation.epochs, changed.modulation.learning_rate) == (120, 1e-5)


def test_a_preset_goes_before_the_params_file_and_overrides_before_both(tmp_path):
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"seed": 4, "features": {"image_size": 96, "batch_size": 3}}))
    settings = load_settings(params, ["coreset.ratio=0.2"], preset="ensemble-320")
    assert (settings.seed, settings.features.batch_size) == (4, 3)
    assert (settings.features.image_size, settings.coreset.ratio) == (320, 0.2)


def test_an_unknown_preset_suggests_the_right_one():
    with pytest.raises(SettingsError, match="did you mean `wrn50-224`"):
        load_settings(preset="wrn50")


def test_fusing_one_backbone_is_refused():
    with pytest.raises(SettingsError, match="at least two backbones"):
        load_settings(None, ["pipeline.fuse=[modified_z]"])


@pytest.mark.parametrize(
    ("name", "backbone", "channels"),
    [
        ("wrn50-224", "wide_resnet50_2", [(512, 8), (1024, 16)]),
        ("wrn50-224-segmentation", "wide_resnet50_2", [(256, 4), (512, 8), (1024, 16)]),
        ("ensemble-320", "densenet201", [(512, 8), (1792, 16)]),
    ],
)
def test_the_networks_yield_the_levels_and_patches_of_the_paper(monkeypatch, name, backbone, channels):
    """Random weights, for shape only: the real ones need a network."""
    torch.manual_seed(0)
    weights = Weights(timm.create_model(backbone).state_dict(), "0" * 64, "random")
    monkeypatch.setattr("reconpatch.model.backbone.find_weights", lambda *_: weights)
    features = load_settings(preset=name).features.model_copy(update={"backbone": backbone, "image_size": 64})
    with torch.inference_mode():
        levels = load_backbone(features)(torch.zeros(1, 3, 64, 64))
        patches = aggregate_patches(levels, features.patch_size, features.aggregation)
    assert [(level.shape[1], 64 // level.shape[2]) for level in levels] == channels
    assert patches.shape == (1, levels[0].shape[2], levels[0].shape[3], 1024)
