"""The modulation f: values, chunks, and its file."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from reconpatch.errors import ModelError
from reconpatch.model.modulation import Modulation, Projection
from reconpatch.training.initialisation import isometry_weight


def make(dim_in=4, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = isometry_weight(dim_in, dim, generator)
    return Modulation(weight, torch.randn(dim_in, generator=generator), torch.tensor(2.5))


def patches(count=11, dim_in=4, dtype=np.float16):
    return np.random.default_rng(0).normal(size=(count, dim_in)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_apply_equals_the_formula(dtype):
    modulation, features = make(), patches(dtype=dtype)
    weight, mean = modulation.weight.detach().numpy(), modulation.mean.numpy()
    out = modulation.transform(features)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [weight @ ((x - mean) / 2.5) for x in features], rtol=1e-4, atol=1e-6)


def test_chunks_change_nothing(monkeypatch):
    modulation, features = make(), patches()
    whole = modulation.transform(features)
    monkeypatch.setattr("reconpatch.model.modulation._CHUNK_ROWS", 3)
    np.testing.assert_allclose(modulation.transform(features), whole, rtol=1e-6, atol=1e-7)


def test_an_untrained_isometry_keeps_distances_up_to_the_scale():
    features = patches(dtype=np.float32)
    before = np.linalg.norm(features[:, None] - features, axis=2)
    after = make().transform(features)
    np.testing.assert_allclose(np.linalg.norm(after[:, None] - after, axis=2), before / 2.5, atol=1e-5)


def test_apply_takes_read_only_memory_maps(tmp_path):
    np.save(tmp_path / "f.npy", patches())
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    np.testing.assert_array_equal(make().transform(mapped), make().transform(patches()))


@pytest.mark.parametrize("shape", [(5, 3), (4,), (2, 3, 4)])
def test_features_of_another_width_are_refused(shape):
    with pytest.raises(ModelError, match="modulation of 4 inputs"):
        make().transform(np.zeros(shape, dtype=np.float16))


def test_projection_is_one_linear_layer():
    weight = torch.arange(6.0).reshape(2, 3)
    torch.testing.assert_close(
        Projection(weight)(torch.tensor([[1.0, 0.0, 2.0]])), torch.tensor([[4.0, 13.0]])
    )


def test_file_round_trip_and_equal_bytes(tmp_path):
    modulation = make()
    modulation.save(tmp_path / "a.safetensors")
    loaded = Modulation.load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    np.testing.assert_array_equal(loaded.transform(patches()), modulation.transform(patches()))
    assert (loaded.dim_in, loaded.dim) == (4, 6)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is missing"):
        Modulation.load(tmp_path / "head.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 40, -3])
def test_file_that_was_cut_short_is_refused(tmp_path, keep):
    path = tmp_path / "head.safetensors"
    make().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match=r"head\.safetensors: no complete safetensors file"):
        Modulation.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, r"holds \['scale', 'weight'\]"),
        ({"extra": torch.ones(1)}, "holds .*'extra'"),
        ({"scale": torch.ones(4)}, "scale has the rank 1, not 0"),
        ({"mean": torch.ones(5)}, "takes 4 inputs and mean has 5"),
        ({"mean": torch.full((4,), torch.nan)}, "mean is not finite"),
        ({"weight": torch.ones(6, 4, dtype=torch.float64)}, "weight is F64, not finite float32"),
        ({"scale": torch.tensor(0.0)}, "scale is 0.0"),
    ],
)
def test_file_that_holds_no_modulation_is_refused(tmp_path, change, message):
    path = tmp_path / "head.safetensors"
    make().save(path)
    tensors = {**load_file(path), **change}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(ModelError, match=message):
        Modulation.load(path)
