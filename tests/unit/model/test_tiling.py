"""Tiles are a way to compute, not another detector: the stitched grid is the whole image's, without seams."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from reconpatch.data.demo import photograph
from reconpatch.errors import SettingsError
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image
from reconpatch.model.tiling import plan_tiles
from reconpatch.settings import FeatureSettings, parse_settings

_CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("side", "tile", "overlap"),
    [(448, 224, 64), (224, 224, 64), (896, 224, 0), (240, 224, 112), (512, 96, 40)],
)
def test_shares_add_up_to_one_everywhere_and_tiles_overlap_enough(side, tile, overlap):
    tiling = plan_tiles(side, tile, overlap, tile // 8, tile // 16)
    total = np.zeros(side // 8)
    for place, weights in zip(tiling.cells, tiling.weights, strict=True):
        total[place] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (tiling.starts[0], tiling.starts[-1]) == (0, side - tile)
    assert all(start % 16 == 0 for start in tiling.starts)
    assert (np.diff(tiling.starts) <= tile - overlap).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image_size": 450, "tile": 224}, r"image_size is 450: .* set it to 448 or 464"),
        ({"image_size": 448, "tile": 200}, r"tile is 200: must be a multiple of 16, .* 192 or 208"),
    ],
)
def test_sides_that_do_not_fit_the_network_are_refused_with_sides_that_do(features, message):
    with pytest.raises(SettingsError, match=message):
        PatchExtractor(FeatureSettings(**features), _CPU)


def test_tiles_of_one_coarsest_cell_cannot_overlap():
    with pytest.raises(SettingsError, match=r"tile_overlap is 16: .* set it to 0, or features\.tile to 64"):
        plan_tiles(64, 32, 16, 4, 1)
    assert (plan_tiles(64, 32, 0, 4, 1).weights == 1).all()
    assert (plan_tiles(32, 32, 16, 4, 1).weights == 1).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"image_size": 224, "tile": 256}, r"tile \(256\) must be at most image_size"),
        ({"image_size": 448, "tile": 224, "tile_overlap": 120}, r"tile_overlap \(120\) must be at most half"),
    ],
)
def test_impossible_tiles_are_wrong_parameters(features, message):
    with pytest.raises(SettingsError, match=message):
        parse_settings({"features": features})


def _picture(side: int) -> np.ndarray:
    grey = photograph("brick")[:, :, None].repeat(3, axis=2)
    return prepare_image(np.ascontiguousarray(grey), FeatureSettings(image_size=side))


def _grid(image: np.ndarray, **features) -> np.ndarray:
    extractor = PatchExtractor(FeatureSettings(image_size=len(image), **features), _CPU)
    return extractor(image[None])[0].reshape(*extractor.grid, -1).astype(np.float32)


def test_where_the_network_sees_no_further_than_the_margin_the_grid_is_the_whole_images():
    image = _picture(256)
    whole, tiled = (_grid(image, levels=(1,), **more) for more in ({}, {"tile": 128, "tile_overlap": 64}))
    np.testing.assert_allclose(tiled, whole, rtol=2e-3, atol=2e-3)


def test_one_tile_is_the_whole_image_byte_for_byte():
    image = _picture(64)
    np.testing.assert_array_equal(_grid(image, tile=64, tile_overlap=32), _grid(image))


def test_no_seam_shows_where_tiles_meet():
    image = _picture(448)
    whole = _grid(image)

    def steps(overlap: int) -> np.ndarray:
        """Of neighbouring columns of patches, against those of the whole image."""
        tiled = _grid(image, tile=224, tile_overlap=overlap)
        of_tiled, of_whole = (
            np.linalg.norm(np.diff(grid, axis=1), axis=2).mean(0) for grid in (tiled, whole)
        )
        return of_tiled / of_whole

    assert steps(0).max() > 1.8
    assert steps(64).max() < 1.35


def test_the_network_sees_nothing_but_tiles_and_a_row_of_them_is_held():
    extractor = PatchExtractor(FeatureSettings(image_size=256, tile=64, tile_overlap=32), _CPU)
    shapes, held = set(), []
    extractor.backbone.register_forward_hook(lambda _, given, __: shapes.add(tuple(given[0].shape)))
    squares = extractor._squares
    extractor._squares = lambda tiles: held.append(len(tiles)) or squares(tiles)
    assert extractor(_picture(256)[None]).shape == (1, 32 * 32, 152)
    assert shapes == {(1, 3, 64, 64)}
    assert held == [7] * 7


def test_all_tiles_at_once_give_what_one_row_after_another_gives():
    extractor = PatchExtractor(FeatureSettings(image_size=96, tile=64, tile_overlap=32), _CPU)
    images = np.stack([_picture(96), _picture(96)[::-1]])
    with torch.inference_mode():
        found = extractor.network(torch.from_numpy(images)).float().numpy()
    np.testing.assert_allclose(found, extractor(images).astype(np.float32), atol=2e-3)


def test_batches_hold_as_many_pixels_whatever_the_size():
    assert FeatureSettings().images_at_once == 16
    assert FeatureSettings(image_size=448, tile=224).images_at_once == 4
    assert FeatureSettings(image_size=2048, tile=224).images_at_once == 1


_PEAK = """
import resource, sys
import numpy as np, torch
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import FeatureSettings
torch.set_num_threads(1)
tile = int(sys.argv[1]) or None
extractor = PatchExtractor(FeatureSettings(image_size=1024, tile=tile, tile_overlap=0), torch.device("cpu"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if tile else 0
extractor(np.zeros((1, 1024, 1024, 3), np.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_is_that_of_a_tile():
    def peak(tile: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, str(tile)], capture_output=True, text=True, check=True
        )
        return int(done.stdout) >> 10

    # Tiles of 128 pixels take less than the grid that they fill, 10 MiB; the whole image takes 540.
    assert peak(128) < 60
