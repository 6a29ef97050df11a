"""Nominal images against each other: a defect among them is found although the bank knows it."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.calibration.self_check import SelfCheck, check_nominal, warn_of_suspects
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Identity
from reconpatch.settings import Settings

LIMIT = 4.0


@dataclass
class Features:
    """Blocks of (P, D) as `PatchFeatures` gives them."""

    images: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_digests(self) -> tuple[str, ...]:
        return tuple(str(image.tobytes()) for image in self.images)

    @property
    def patches(self) -> int:
        return sum(len(image) for image in self.images)

    def blocks(self) -> Iterator[np.ndarray]:
        return iter(self.images)

    def subset(self, indices: Iterable[int]) -> "Features":
        return Features([self.images[i] for i in indices])


def nominal(count: int = 20) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(0, 1, (30, 4)).astype(np.float32) for _ in range(count)]


def bank_of(images: list[np.ndarray]) -> MemoryBank:
    """Every third patch, and every odd one, as a coreset picks them."""
    picked = [block[(np.arange(30) % 3 == 0) | (np.abs(block) > 6).any(axis=1)] for block in images]
    return MemoryBank(np.concatenate(picked))


def suspects(images: list[np.ndarray], groups: list[str]) -> list[int]:
    checked = check_nominal(Features(images), groups, Identity(4), bank_of(images))
    assert checked is not None
    return np.flatnonzero(checked.z > LIMIT).tolist()


def own(images: list[np.ndarray]) -> list[str]:
    return [str(number) for number in range(len(images))]


def test_a_defect_is_found_although_its_patch_is_in_the_bank() -> None:
    images = nominal()
    assert suspects(images, own(images)) == []
    images[7][4] = 9
    assert bank_of(images).search(images[7], 1)[0].max() < 6  # by the bank itself it is as good as any
    assert suspects(images, own(images)) == [7]


def test_images_of_one_group_do_not_explain_each_other_and_of_two_groups_do() -> None:
    images = nominal()
    images[7][4], images[8][4] = 9, 9.2
    groups = own(images)
    assert suspects(images, groups) == []
    groups[8] = "7"
    assert suspects(images, groups) == [7, 8]


def test_a_copy_is_of_the_group_of_its_original() -> None:
    images = nominal()
    images[7][4] = 9
    images.append(images[7].copy())
    assert suspects(images, own(images)) == [7, 20]


def test_an_image_that_left_nothing_in_the_bank_is_scored_as_a_new_one() -> None:
    images = nominal()
    bank = bank_of(images[:15])
    checked = check_nominal(Features(images), own(images), Identity(4), bank)
    assert checked is not None
    for number in range(15, 20):
        assert checked.scores[number] == pytest.approx(bank.search(images[number], 1)[0].max())


def test_scores_are_those_of_the_bank_without_the_vectors_of_the_own_group() -> None:
    """Groups of ten images own far more of a patch's neighbourhood than the search looks at first."""
    random = np.random.default_rng(0)
    images = [random.normal(number // 10, 0.3, (30, 4)).astype(np.float32) for number in range(40)]
    groups = [str(number // 10) for number in range(40)]
    checked = check_nominal(Features(images), groups, Identity(4), bank_of(images))
    assert checked is not None
    for group in range(4):
        part = slice(10 * group, 10 * group + 10)
        others = bank_of(images[: part.start] + images[part.stop :]).vectors
        expected = [
            np.linalg.norm(block[:, None] - others, axis=2).min(axis=1).max() for block in images[part]
        ]
        np.testing.assert_allclose(checked.scores[part], expected, rtol=1e-5)


def test_one_group_can_tell_nothing() -> None:
    images = nominal(3)
    assert check_nominal(Features(images), ["a"] * 3, Identity(4), bank_of(images)) is None


def test_the_table_and_the_warning_name_the_most_suspicious_first(caplog: pytest.LogCaptureFixture) -> None:
    check = SelfCheck(np.array([1.0, 9.0, 2.0, 7.0]), np.array([0.0, 8.0, 1.0, 6.0]))
    table = check.table(["a", "b", "c", "d"], LIMIT)
    assert table["path"].tolist() == ["b", "d", "c", "a"]
    assert table["suspicious"].tolist() == [True, True, False, False]
    calm = SelfCheck(check.scores, np.zeros(4))
    with caplog.at_level(logging.WARNING):
        for found in (check, calm, None):
            warn_of_suspects(found, ["a", "b", "c", "d"], Settings())
    (record,) = caplog.records
    assert "2 of 4 nominal images" in record.message
    assert "b, d" in record.message


def test_a_fit_warns_of_a_defect_among_its_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    random, paths = np.random.default_rng(0), []
    for number in range(16):
        pixels = random.integers(90, 140, (64, 64, 3)).astype(np.uint8)
        if number == 5:
            pixels[20:44, 20:44] = (250, 20, 20)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    params = {"features.image_size": 64, "modulation.enabled": False, "coreset.ratio": 0.2, "threads": 1}
    with caplog.at_level(logging.WARNING, logger="reconpatch"):
        ReConPatch(params={**params, "device": "cpu"}).fit(paths)
    assert [record.message for record in caplog.records if f"good part? {paths[5]} (" in record.message]
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="reconpatch"):
        ReConPatch(params={**params, "calibrate.suspicious_z": None}).fit(paths)
    assert not caplog.records
