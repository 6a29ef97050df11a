"""Which patches are shown, how they are coloured, and the picture from images to PNG."""

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.manifest import build_manifest
from reconpatch.errors import DataError
from reconpatch.evaluation.embedding_figure import embedding_figure, position_colours
from reconpatch.evaluation.patch_embedding import Patches, Stage, choose_patches, embed_category, lay_out
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.settings import load_settings

SETTINGS = load_settings(
    None,
    {
        "features.image_size": 64, "modulation.dim": 16, "modulation.projection_dim": 8,
        "modulation.steps": 4, "modulation.batch_size": 64, "threads": 1, "device": "cpu",
    },
)  # fmt: skip


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 4), ("test/good", 3), ("test/dent", 2), ("ground_truth/dent", 2)):
        folder = tmp_path / "nut" / where
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(90, 140, (64, 64, 3)).astype(np.uint8)
            name = f"{number}.png"
            if where == "ground_truth/dent":
                # The lower right quarter; of the second image nothing is marked.
                pixels = np.zeros((64, 64), np.uint8)
                pixels[32:, 32:] = 255 * (number == 0)
                name = f"{number}_mask.png"
            Image.fromarray(pixels).save(folder / name)
    return build_manifest(tmp_path / "nut", SETTINGS.data)


class Corners:
    """Features that name their image and patch; a 4 x 4 grid."""

    grid, dim, digest, platform = (4, 4), 2, "corners", "here"
    settings = SETTINGS.features

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        blocks = []
        for _ in images:
            blocks.append(np.stack([np.full(16, self.seen), np.arange(16)], axis=1))
            self.seen += 1
        return np.array(blocks, np.float16)


def test_patches_are_nominal_of_good_images_or_marked_as_defect(table, tmp_path):
    found = choose_patches(table, SETTINGS, Corners(), FeatureCache(tmp_path / "cache"), 1000)
    places = {(round(row * 3), round(column * 3)) for row, column in found.positions[found.defective]}
    assert places == {(2, 2), (2, 3), (3, 2), (3, 3)}
    assert int(found.defective.sum()) == 4, "the image without a mark gives none"
    assert len(found.features) == 3 * 16 + 4
    assert np.array_equal(found.features[:, 1], np.rint(found.positions @ [12, 3]))
    some = choose_patches(table, SETTINGS, Corners(), FeatureCache(tmp_path / "cache"), 9)
    assert (len(some.features), int(some.defective.sum())) == (9, 3)


def test_without_a_good_test_image_there_is_nothing_to_show(table, tmp_path):
    bad = table[(table["split"] == "train") | (table["label"] == 1)]
    bad.attrs = dict(table.attrs)
    with pytest.raises(DataError, match="no good test image"):
        choose_patches(bad, SETTINGS, Corners(), FeatureCache(tmp_path / "cache"), 10)


@pytest.mark.slow
def test_a_category_is_laid_out_before_during_and_after_training(table, tmp_path):
    patches, stages = embed_category(table, SETTINGS, FeatureCache(tmp_path / "cache"), count=40)
    assert [stage.step for stage in stages] == [0, 4, 4], (
        "of so few steps only the start and the end are recorded"
    )
    assert all(stage.points.shape == (len(patches.features), 2) for stage in stages)
    figure = embedding_figure(patches, stages, "nut")
    titles = [axis.get_title("left") for axis in figure.axes]
    assert "before training, step 0" in titles
    assert "after training, step 4" in titles


@pytest.mark.slow
def test_clusters_stay_apart_in_the_plane_and_the_seed_decides():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.1, (30, 8)), rng.normal(5, 0.1, (30, 8))]).astype(np.float32)
    first, second = lay_out([points, points], seed=0)
    inside = np.linalg.norm(first[:30] - first[:30].mean(0), axis=1).max()
    assert np.linalg.norm(first[:30].mean(0) - first[30:].mean(0)) > inside
    assert np.array_equal(first, lay_out([points], seed=0)[0])
    assert second.shape == first.shape


def test_corners_have_their_own_colours():
    colours = position_colours(np.array([[0, 0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]], float))
    assert len(np.unique(colours.round(3), axis=0)) == 5
    assert np.allclose(colours[4], colours[:4].mean(0))
    patches = Patches(np.zeros((5, 2), np.float16), np.zeros((5, 2)), np.arange(5) > 2)
    figure = embedding_figure(patches, [Stage(0, np.zeros((5, 2), np.float32))], "nut")
    labels = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert labels == ["nominal (3)", "defect (2)"]
