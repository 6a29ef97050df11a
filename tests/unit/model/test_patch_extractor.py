import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reconpatch.device import limit_threads
from reconpatch.errors import DataError, ModelError
from reconpatch.model.patch_extractor import PatchExtractor, platform
from reconpatch.model.patches import aggregate_patches
from reconpatch.settings import FeatureSettings

_CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = torch.get_num_threads()
    yield
    limit_threads(before)


def noise(count, side=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_features_are_the_aggregated_levels_of_the_normalised_image(extractor):
    images = noise(2)
    normalised = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    levels = extractor.backbone(normalised)
    expected = aggregate_patches(levels, 3, "average_pool").reshape(2, 64, 152)
    features = extractor(images)
    assert extractor.grid == (8, 8)
    assert extractor.dim == 152
    assert features.shape == (2, 64, 152)
    assert features.dtype == np.float16
    np.testing.assert_allclose(features, expected.numpy(), rtol=2e-3, atol=2e-3)


def test_mean_and_deviation_of_the_weights_are_used(weight_file):
    name = "mobilenetv3_small_050"
    settings = FeatureSettings(
        backbone=name, weights=weight_file(name), levels=(2,), patch_size=1, image_size=64
    )
    extractor = PatchExtractor(settings, _CPU)
    assert extractor.backbone.mean == (0.485, 0.456, 0.406)
    images = noise(1)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normalised = torch.from_numpy((images / 255 - mean) / std).permute(0, 3, 1, 2).float()
    (level,) = extractor.backbone(normalised)
    expected = level[0].flatten(1).T.numpy()
    np.testing.assert_allclose(extractor(images)[0], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_images_bytes_depend_on_neither_batch_nor_threads(extractor, threads):
    images = noise(7)
    limit_threads(1)
    alone = np.concatenate([extractor(images[i : i + 1]) for i in range(7)])
    limit_threads(threads)
    assert extractor(images).tobytes() == alone.tobytes()
    assert extractor(images[::-1])[::-1].tobytes() == alone.tobytes()
    assert extractor(images[3:5]).tobytes() == alone[3:5].tobytes()


def test_chunks_of_a_batching_device_are_filled_up_and_cut(weight_file):
    settings = FeatureSettings(
        backbone="test_resnet", weights=weight_file("test_resnet"), image_size=64, batch_size=4
    )
    extractor = PatchExtractor(settings, _CPU)
    alone = extractor(noise(6))
    sizes = []
    extractor.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    extractor._chunk = 4  # as on CUDA
    limit_threads(1)
    together = extractor(noise(6))
    assert sizes == [4, 4]
    np.testing.assert_allclose(together, alone, rtol=2e-3, atol=2e-3 * np.abs(alone).max())


def test_no_image_gives_no_features(extractor):
    assert extractor(noise(0)).shape == (0, 64, 152)


@pytest.mark.parametrize("images", [noise(1)[0], noise(1, side=32), noise(1) / 255])
def test_other_shapes_and_types_are_refused(extractor, images):
    with pytest.raises(DataError, match=r"must be \(B, 64, 64, 3\) uint8"):
        extractor(images)


def test_bfloat16_rounds_as_its_eight_bits_do_and_no_worse(extractor, small):
    exact = extractor(noise(3)).astype(np.float64)
    rounded = PatchExtractor(small.model_copy(update={"precision": "bfloat16"}), _CPU)(noise(3))
    assert rounded.dtype == np.float16
    difference = np.linalg.norm(rounded - exact, axis=2) / np.linalg.norm(exact, axis=2)
    assert 1e-4 < difference.max() < 5e-2


@pytest.mark.parametrize("factor", [float("nan"), 1e6])
def test_features_beyond_float16_are_an_error(weight_file, tmp_path, factor):
    tensors = load_file(weight_file("test_resnet"))
    tensors["layer2.0.bn2.weight"] = tensors["layer2.0.bn2.weight"] * factor
    save_file(tensors, tmp_path / "huge.safetensors")
    settings = FeatureSettings(
        backbone="test_resnet", weights=tmp_path / "huge.safetensors", levels=(2,), image_size=64
    )
    with pytest.raises(ModelError, match="beyond float16 or not finite"):
        PatchExtractor(settings, _CPU)(noise(1))


def test_adaptive_features_are_1024_wide(weight_file):
    settings = FeatureSettings(
        backbone="test_resnet", weights=weight_file("test_resnet"), image_size=64, aggregation="adaptive"
    )
    assert PatchExtractor(settings, _CPU)(noise(1)).shape == (1, 64, 1024)


def test_the_digest_changes_with_whatever_changes_the_features(weight_file, tmp_path):
    path = weight_file("test_resnet")
    tensors = load_file(path)
    tensors["conv1.0.weight"] = tensors["conv1.0.weight"] + 1
    save_file(tensors, tmp_path / "other.safetensors")
    base = FeatureSettings(backbone="test_resnet", weights=path, image_size=64)
    changes = [
        {},
        {"weights": tmp_path / "other.safetensors"},
        {"levels": (1, 2)},
        {"patch_size": 5},
        {"aggregation": "adaptive"},
        {"image_size": 96},
        {"resize": 80},
        {"precision": "bfloat16"},
    ]
    digests = {PatchExtractor(base.model_copy(update=change), _CPU).digest for change in changes}
    assert len(digests) == len(changes)


def test_the_digest_does_not_change_with_batch_size_or_place_of_the_weights(weight_file, tmp_path):
    path = weight_file("test_resnet")
    (tmp_path / "copy.safetensors").write_bytes(path.read_bytes())
    base = FeatureSettings(backbone="test_resnet", weights=path, image_size=64)
    same = base.model_copy(
        update={"weights": tmp_path / "copy.safetensors", "batch_size": 3, "levels": (3, 2, 2)}
    )
    assert PatchExtractor(base, _CPU).digest == PatchExtractor(same, _CPU).digest


def test_the_platform_names_what_rounds(extractor):
    assert extractor.platform == platform(_CPU, extractor.settings)
    assert f"torch {torch.__version__}" in extractor.platform
    assert extractor.platform.startswith("cpu ")
