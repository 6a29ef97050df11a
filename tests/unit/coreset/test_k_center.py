import logging
import re

import numpy as np
import pytest
import torch

from reconpatch import progress
from reconpatch.coreset.k_center import coreset_size, k_center_greedy
from reconpatch.coreset.textbook import covering_radius, textbook_k_center
from reconpatch.errors import DataError, SettingsError


@pytest.mark.parametrize("case", range(20))
def test_selects_what_the_textbook_loop_selects_of_5000_points(case):
    rng = np.random.default_rng(case)
    width = (1, 2, 3, 5, 8, 16, 32, 48, 70, 96)[case % 10]
    points = rng.normal(size=(5000, width)) * 0.9 ** np.arange(width)
    points = (points @ rng.normal(size=(width, width)) + rng.normal(size=width)).astype(np.float32)
    np.testing.assert_array_equal(
        k_center_greedy(points, 150, seed=case), textbook_k_center(points, 150, seed=case)
    )


def _normal(count, width, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def _tight_clusters():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 70))[rng.integers(0, 3, 400)]
    return (centres + 1e-3 * rng.normal(size=(400, 70))).astype(np.float32)


def _one_outlier():
    return np.concatenate([_normal(399, 70) * 0.8 ** np.arange(70), np.full((1, 70), 1e4)]).astype(np.float32)


HARD = {
    "duplicates": np.repeat(_normal(40, 5), 10, axis=0),
    "grid of exact ties": np.random.default_rng(2).integers(0, 4, (600, 4)).astype(np.float32),
    "all equally far from each other": np.eye(700, dtype=np.float32),
    "all equal": np.full((50, 7), 3.25, dtype=np.float32),
    "all zero": np.zeros((50, 7), dtype=np.float32),
    "clusters far tighter than far apart": _tight_clusters(),
    "one far outlier": _one_outlier(),
    "far from the origin": 1000 + _normal(400, 6),
    "huge": _normal(400, 6) * np.float32(1e30),
    "tiny": _normal(400, 6) * np.float32(1e-30),
    "half precision": _normal(400, 70).astype(np.float16),
    "low rank in many dimensions": _normal(400, 4) @ _normal(4, 200, seed=1),
    "one dimension": _normal(400, 1),
    "one point": _normal(1, 3),
}


@pytest.mark.parametrize("name", HARD)
def test_every_point_in_the_textbook_order_where_that_is_hard(name):
    points = HARD[name]
    np.testing.assert_array_equal(
        k_center_greedy(points, len(points), seed=3), textbook_k_center(points, len(points), seed=3)
    )


def test_first_of_equally_far_points_is_the_one_with_the_lowest_index():
    corners = np.array([[1, 1], [0, 0], [2, 2], [0, 2], [2, 0]], dtype=np.float32)
    seed = next(s for s in range(100) if np.random.default_rng(s).integers(5) == 0)
    assert k_center_greedy(corners, 5, seed=seed).tolist() == [0, 1, 2, 3, 4]


def test_shorter_selection_is_the_beginning_of_a_longer_one():
    points = _normal(3000, 8)
    longest = k_center_greedy(points, 200)
    for size in (1, 2, 57):
        np.testing.assert_array_equal(k_center_greedy(points, size), longest[:size])


def test_result_does_not_depend_on_threads_device_object_or_memory_map(tmp_path):
    points = _normal(3000, 70)
    np.save(tmp_path / "points.npy", points)
    expected = k_center_greedy(points, 100)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
        np.testing.assert_array_equal(k_center_greedy(mapped, 100, device=torch.device("cpu")), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert expected.dtype == np.int64
    assert expected.shape == (100,)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_result_does_not_depend_on_the_precision_that_torch_is_set_to(precision):
    points = _normal(2000, 70)
    expected = textbook_k_center(points, 60)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        np.testing.assert_array_equal(k_center_greedy(points, 60), expected)
    finally:
        torch.set_float32_matmul_precision(before)


def test_seed_draws_the_first_centre():
    points = _normal(100, 4)
    firsts = {int(k_center_greedy(points, 1, seed=seed)[0]) for seed in range(30)}
    assert len(firsts) > 10
    assert firsts == {int(np.random.default_rng(seed).integers(100)) for seed in range(30)}


@pytest.mark.parametrize("size", [0, -1, 11])
def test_size_out_of_range(size):
    with pytest.raises(SettingsError, match=f"size is {size}: must be 1 to .* 10"):
        k_center_greedy(_normal(10, 3), size)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("count", [10, 5000])
def test_values_that_are_not_finite(value, count):
    points = _normal(count, 3)
    points[7, 1] = value
    with pytest.raises(DataError, match="NaN or infinite"):
        k_center_greedy(points, 5)


@pytest.mark.parametrize(
    "points", [np.zeros((3, 2)), np.zeros(3, np.float32), np.zeros((3, 0), np.float32), np.zeros((3, 2), int)]
)
def test_wrong_shape_or_type(points):
    with pytest.raises(DataError, match="must be"):
        k_center_greedy(points, 1)


def test_sizes_that_float32_cannot_hold_together():
    points = _normal(5000, 3) * np.float32(1e-10)
    points[4999] = 1e20
    with pytest.raises(DataError, match="orders of magnitude"):
        k_center_greedy(points, 5)


def test_progress_is_shown_with_the_time_left(monkeypatch, caplog):
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        k_center_greedy(_normal(300, 3), 20)
    assert re.search(r"coreset: 5 of 20, about \d+ s left", caplog.text)


@pytest.mark.real_images
def test_real_patches_are_selected_as_by_the_textbook_loop(real_images):
    from PIL import Image

    patches = []
    for path in sorted((real_images / "mvtec" / "bottle" / "train" / "good").glob("*.png"))[:6]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((224, 224)), dtype=np.float32)
        patches.append(pixels.reshape(28, 8, 28, 8, 3).transpose(0, 2, 1, 3, 4).reshape(784, 192))
    points = np.concatenate(patches)
    expected = textbook_k_center(points, 100)
    selected = k_center_greedy(points, 100)
    np.testing.assert_array_equal(selected, expected)
    assert covering_radius(points, points[selected]) == covering_radius(points, points[expected])


@pytest.mark.parametrize(
    ("n", "ratio", "max_bank", "size"),
    [
        (163_856, 0.01, None, 1639),
        (163_856, 0.01, 500, 500),
        (163_856, 0.01, 5000, 1639),
        (10, 0.01, None, 1),
        (10, 1.0, None, 10),
        (1, 0.5, 7, 1),
    ],
)
def test_coreset_size(n, ratio, max_bank, size):
    assert coreset_size(n, ratio, max_bank) == size


@pytest.mark.parametrize(
    ("n", "ratio", "max_bank", "named"),
    [
        (0, 0.1, None, "n is 0"),
        (5, 0.0, None, "coreset.ratio"),
        (5, 1.1, None, "coreset.ratio"),
        (5, 0.1, 0, "max_bank"),
    ],
)
def test_coreset_size_refuses(n, ratio, max_bank, named):
    with pytest.raises(SettingsError, match=named):
        coreset_size(n, ratio, max_bank)
