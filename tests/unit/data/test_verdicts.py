"""Verdicts of people as part of the data: written down, read back, honoured by manifest and fit."""

from pathlib import Path

import numpy as np
import pytest
from manifest_rows import manifest, row
from PIL import Image

from reconpatch.data.manifest import build_manifest, manifest_digest
from reconpatch.data.reviews import Review, append_review, read_reviews
from reconpatch.data.training_images import training_images
from reconpatch.data.verdicts import (
    Verdict,
    apply_reviews,
    are_written,
    contradicted,
    read_verdicts,
    verdicts_on,
    write_verdicts,
)
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import sha256_file

ONE, TWO = "1" * 64, "2" * 64


def reviewed(path: Path, **verdicts: str):
    for digest, verdict in verdicts.items():
        append_review(path, Review(image_sha256=digest[1:] * 64, verdict=verdict, who="Ann, Line 3"))
    return read_reviews(path)


def test_the_last_verdict_on_each_image_is_written_and_read_back(tmp_path: Path) -> None:
    reviews = reviewed(tmp_path / "reviews.jsonl", d1="good", d2="good", d3="bad")
    reviews = reviewed(tmp_path / "reviews.jsonl", d1="bad")
    said = verdicts_on([("b.png", TWO), ("a, 1.png", ONE), ("c.png", "4" * 64)], reviews)
    assert [(one.path, one.verdict) for one in said] == [("a, 1.png", "bad"), ("b.png", "good")]
    assert read_verdicts(tmp_path) == []
    write_verdicts(tmp_path, said)
    assert read_verdicts(tmp_path) == said
    write_verdicts(tmp_path, [])
    assert not (tmp_path / "reviews.csv").exists()


def test_what_an_earlier_release_wrote_with_a_bare_carriage_return_is_read_and_written_anew(
    tmp_path: Path,
) -> None:
    said = [
        Verdict("a.png", ONE, "bad", "A\rB", "2026-01-02T03:04:05+00:00"),
        Verdict("cr\rx.png", TWO, "good", "=cmd", "2026-01-02T03:04:05+00:00"),
    ]
    lines = [",".join((one.path, one.sha256, one.verdict, one.who, one.when)) for one in said]
    old = "".join(f"{line}\n" for line in ["path,sha256,verdict,who,when", *lines])
    (tmp_path / "reviews.csv").write_bytes(old.encode())
    assert read_verdicts(tmp_path) == said
    assert not are_written(tmp_path, said)
    write_verdicts(tmp_path, said)
    assert are_written(tmp_path, said)
    assert read_verdicts(tmp_path) == said
    assert "'=cmd" in (tmp_path / "reviews.csv").read_text()
    assert not are_written(tmp_path, [])


@pytest.mark.parametrize("text", ["path,verdict\na,good\n", "\xff", None])
def test_a_broken_file_is_refused(tmp_path: Path, text: str | None) -> None:
    write_verdicts(tmp_path, [Verdict("a", ONE, "good", "Ann", "now")])
    table = tmp_path / "reviews.csv"
    table.write_text(table.read_text().replace("good", "fine") if text is None else text, encoding="latin-1")
    with pytest.raises(DataError, match=r"reviews\.csv: .*restore"):
        read_verdicts(tmp_path)


def test_labels_that_a_person_contradicts() -> None:
    table = manifest(
        [
            row("right", label=0, verdict="good"),
            row("wrong", label=0, verdict="bad"),
            row("defect", label=1, verdict="bad"),
            row("no defect", label=1, verdict="good"),
            row("nobody looked", label=1),
        ]
    )
    assert contradicted(table).tolist() == [False, True, False, True, False]


def test_a_review_table_goes_before_what_the_data_say(tmp_path: Path) -> None:
    table = manifest([row("a", sha256=ONE, verdict="good"), row("b", sha256=TWO, verdict="bad"), row("c")])
    table.attrs["root"] = "there"
    changed = apply_reviews(table, reviewed(tmp_path / "reviews.jsonl", d1="bad", d3="bad"))
    assert changed["verdict"].fillna("-").tolist() == ["bad", "bad", "-"]
    assert changed.attrs == table.attrs
    assert dict(changed.dtypes) == dict(table.dtypes)


def test_a_training_image_that_was_judged_bad_is_not_fitted_on(tmp_path: Path) -> None:
    good = tmp_path / "nut/train/good"
    good.mkdir(parents=True)
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(good / f"{number}.png")
    root, settings = tmp_path / "nut", DataSettings()
    before = manifest_digest(build_manifest(root, settings))
    write_verdicts(root, [Verdict("train/good/1.png", sha256_file(good / "1.png"), "bad", "Ann", "now")])
    table = build_manifest(root, settings)
    assert table["verdict"].fillna("-").tolist() == ["-", "bad", "-"]
    assert manifest_digest(table) != before
    for images in (root, table):
        with pytest.raises(DataError, match=r"train/good/1\.png: a person judged the part bad"):
            training_images(images, settings)
    # It was said of an image, not of a name.
    (good / "1.png").rename(good / "renamed.png")
    for images in (root, build_manifest(root, settings)):
        with pytest.raises(DataError, match=r"train/good/renamed\.png: a person judged the part bad"):
            training_images(images, settings)
    (good / "renamed.png").unlink()
    (good / "1.png").write_bytes((good / "2.png").read_bytes() + b"\0")
    assert len(training_images(root, settings).paths) == 3
    assert build_manifest(root, settings)["verdict"].isna().all()
