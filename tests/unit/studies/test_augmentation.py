"""Augmented copies: seeded, of their image's group, and nominal training images like any other."""

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.data.training_images import training_images
from reconpatch.settings import DataSettings
from studies.augmentation import augment


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 6), ("test/good", 2), ("test/dent", 2)):
        (tmp_path / "part" / where).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(60, 200, (32, 40, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "part" / where / f"{number}.png")
    return build_manifest(tmp_path / "part", DataSettings())


def test_copies_join_the_nominal_training_images_in_their_groups(table, tmp_path):
    joined = augment(table, tmp_path / "copies", copies=3, seed=0)
    added = joined.iloc[len(table) :]
    assert len(added) == 18
    assert set(added["split"]) == {"train"}
    assert set(added["label"]) == {0}
    sources = table[table["split"] == "train"]["group"].tolist()
    assert added["group"].tolist() == [group for group in sources for _ in range(3)]
    assert joined.iloc[: len(table)].equals(table)
    assert joined.dtypes.equals(table.dtypes)
    found = training_images(joined, DataSettings())
    assert len(found.paths) == 24
    assert len(set(found.groups)) == 6, "a copy is held out with its image"


def test_the_seed_decides_and_a_second_call_reads_what_the_first_wrote(table, tmp_path):
    first = augment(table, tmp_path / "a", copies=2, seed=0)
    again = augment(table, tmp_path / "b", copies=2, seed=0)
    other = augment(table, tmp_path / "c", copies=2, seed=1)
    assert first["sha256"].tolist() == again["sha256"].tolist() != other["sha256"].tolist()
    kept = image_paths(first)[-1]
    kept.write_bytes(image_paths(first)[0].read_bytes())
    assert augment(table, tmp_path / "a", copies=2, seed=0)["sha256"].iloc[-1] == first["sha256"].iloc[0]


def test_copies_are_disturbed_and_of_the_size_of_their_image(table, tmp_path):
    joined = augment(table, tmp_path / "copies", copies=4, seed=0)
    originals = [read_image(path) for path in image_paths(joined[joined["split"] == "train"].iloc[:6])]
    copies = [read_image(path) for path in image_paths(joined.iloc[len(table) :])]
    assert {copy.shape for copy in copies} == {(32, 40, 3)}
    same = [np.array_equal(copy, originals[number // 4]) for number, copy in enumerate(copies)]
    assert 0 <= sum(same) <= 6, "one in sixteen is left as it is, on the mean"
