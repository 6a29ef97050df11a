"""Reviews: a table appended by many and whole after a kill; as part of the data, honoured by fits."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from manifest_rows import manifest, row
from PIL import Image
from pydantic import ValidationError
from waiting import wait_for

from reconpatch.data.manifest import build_manifest, manifest_digest
from reconpatch.data.reviews import (
    COLUMNS,
    Review,
    append_review,
    apply_reviews,
    are_written,
    contradicted,
    read_data_reviews,
    read_reviews,
    reviews_of,
    write_data_reviews,
)
from reconpatch.data.training_images import training_images
from reconpatch.errors import DataError
from reconpatch.settings import DataSettings
from reconpatch.storage.atomic_files import sha256_file

ONE, TWO = "a" * 64, "b" * 64
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_APPEND = """
import sys
from pathlib import Path
from reconpatch.data.reviews import Review, append_review
for number in range(int(sys.argv[3])):
    append_review(Path(sys.argv[1]), Review(image_sha256=f"{int(sys.argv[2]) * 10**6 + number:064x}",
                                            verdict="good", who="w" * 3000))
    if number == 0:
        print("started", flush=True)
"""


def test_no_table_is_no_review_with_the_same_columns(tmp_path):
    table = read_reviews(tmp_path / "none.jsonl")
    assert len(table) == 0
    assert dict(table.dtypes.astype(str)) == COLUMNS


def test_the_last_review_of_an_image_holds(tmp_path):
    path = tmp_path / "deep" / "reviews.jsonl"
    when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    append_review(path, Review(image_sha256=TWO, verdict="bad", who="Ann", when=when, model_version="7"))
    append_review(path, Review(image_sha256=ONE, verdict="bad", who="Bob"))
    # An earlier clock does not make a later review void: machines disagree about the time.
    append_review(path, Review(image_sha256=ONE, verdict="good", who="Zoë 2", when=when))
    table = read_reviews(path)
    assert dict(table.dtypes.astype(str)) == COLUMNS
    assert table["image_sha256"].tolist() == [ONE, TWO]
    assert table["verdict"].tolist() == ["good", "bad"]
    assert table["who"].tolist() == ["Zoë 2", "Ann"]
    assert table["when"].iloc[1] == when
    assert table["model_version"].isna().tolist() == [True, False]
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_sha256": "A" * 64}, {"image_sha256": "a" * 63}, {"verdict": "maybe"}, {"who": ""},
        {"when": datetime(2026, 1, 1)}, {"extra": 1},
    ],
)  # fmt: skip
def test_a_review_must_be_whole(wrong):
    with pytest.raises(ValidationError):
        Review.model_validate({"image_sha256": ONE, "verdict": "good", "who": "Ann"} | wrong)


@pytest.mark.parametrize(
    "torn", [b'{"image_sha256": "', b'{"image_sha256":"' + b"x" * 9000, b'{"ima', b"{", b"\0" * 300, b"{\0\0"]
)
def test_what_a_killed_append_left_is_neither_read_nor_joined_to_the_next_line(tmp_path, torn):
    path = tmp_path / "reviews.jsonl"
    append_review(path, Review(image_sha256=ONE, verdict="good", who="Ann"))
    with path.open("ab") as stream:
        stream.write(torn)
    assert read_reviews(path)["image_sha256"].tolist() == [ONE]
    append_review(path, Review(image_sha256=TWO, verdict="bad", who="Ann"))
    assert read_reviews(path)["image_sha256"].tolist() == [ONE, TWO]


@pytest.mark.parametrize("line", ["[]", "no json", '{"image_sha256": "x"}', "\xff"])
def test_a_line_that_is_no_review_is_named(tmp_path, line):
    path = tmp_path / "reviews.jsonl"
    append_review(path, Review(image_sha256=ONE, verdict="good", who="Ann"))
    with path.open("a", encoding="latin-1") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=r"reviews\.jsonl: line 2 is no review"):
        read_reviews(path)


def test_a_place_that_cannot_be_written_or_read(tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        append_review(tmp_path, Review(image_sha256=ONE, verdict="good", who="Ann"))
    with pytest.raises(DataError, match="cannot be read"):
        read_reviews(tmp_path)


@pytest.mark.parametrize("who", ["A\rB", "Ann\n", "\x1b[31mAnn", "A\u2028B"])
def test_a_name_with_control_characters_gives_no_review_and_an_old_one_is_read(tmp_path, who):
    path = tmp_path / "reviews.jsonl"
    review = Review(image_sha256=ONE, verdict="good", who=who)
    with pytest.raises(DataError, match="control character"):
        append_review(path, review)
    assert not path.exists()
    path.write_text(review.model_dump_json() + "\n")
    assert read_reviews(path)["who"].tolist() == [who]


@pytest.mark.parametrize("before", [0, 1, 40])
def test_a_last_review_without_a_line_end_is_kept(tmp_path, before):
    path = tmp_path / "reviews.jsonl"
    for _ in range(before):
        append_review(path, Review(image_sha256="c" * 64, verdict="good", who="Bob"))
    with path.open("a") as stream:
        stream.write(Review(image_sha256=ONE, verdict="bad", who="Ann " + "x" * 5000).model_dump_json())
    assert ONE in read_reviews(path)["image_sha256"].tolist()
    append_review(path, Review(image_sha256=TWO, verdict="good", who="Ann"))
    append_review(path, Review(image_sha256="d" * 64, verdict="good", who="Ann"))
    held = read_reviews(path)["image_sha256"].tolist()
    assert held == [ONE, TWO, *(["c" * 64] if before else []), "d" * 64]
    assert path.read_bytes().count(b"\n") == before + 3


@pytest.mark.parametrize(
    "content",
    [
        b"the only note of this line", b"two\nnotes\n", b"two\nnotes", b'{"image_sha256": 1}', b"{not json",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0", b"\n", b"[" * 100_000,
    ],
)  # fmt: skip
def test_another_file_is_refused_and_stays_as_it_is(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is no review table, or damaged"):
        append_review(path, Review(image_sha256=ONE, verdict="good", who="Ann"))
    assert path.read_bytes() == content
    with pytest.raises(DataError, match="line 1 is no review"):
        read_reviews(path)


def test_a_table_that_ends_in_something_else_is_refused_and_stays_as_it_is(tmp_path):
    path = tmp_path / "reviews.jsonl"
    append_review(path, Review(image_sha256=ONE, verdict="good", who="Ann"))
    content = path.read_bytes() + b"see Bob about this"
    path.write_bytes(content)
    with pytest.raises(DataError, match="its end is no review"):
        append_review(path, Review(image_sha256=TWO, verdict="good", who="Ann"))
    with pytest.raises(DataError, match="line 2 is no review"):
        read_reviews(path)
    assert path.read_bytes() == content


def test_what_is_removed_from_the_end_is_shown(tmp_path, caplog):
    path = tmp_path / "reviews.jsonl"
    path.write_text('{"image_sha256":"aa')
    append_review(path, Review(image_sha256=TWO, verdict="good", who="Ann"))
    assert "not written whole is removed" in caplog.text
    assert '{"image_sha256":"aa' in caplog.text
    assert read_reviews(path)["image_sha256"].tolist() == [TWO]


def test_many_writers_lose_nothing_and_one_that_is_killed_harms_no_other(tmp_path):
    path = tmp_path / "reviews.jsonl"

    def start(writer: int, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _APPEND, str(path), str(writer), str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    writers = [start(0, 60), start(1, 60), start(2, 10**6)]
    assert writers[2].stdout is not None
    writers[2].stdout.readline()
    # In the midst of its lines, with those of the others around them.
    wait_for("some lines", lambda: path.stat().st_size > 100 * 3000)
    os.kill(writers[2].pid, signal.SIGKILL)
    assert [writer.wait() for writer in writers] == [0, 0, -signal.SIGKILL]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    names = set(read_reviews(Path(path))["image_sha256"])
    assert {f"{w * 10**6 + n:064x}" for w in (0, 1) for n in range(60)} <= names


def reviewed(path: Path, **verdicts: str):
    for digest, verdict in verdicts.items():
        append_review(path, Review(image_sha256=digest[1:] * 64, verdict=verdict, who="Ann, Line 3"))
    return read_reviews(path)


def test_the_last_review_of_each_image_is_written_and_read_back(tmp_path: Path) -> None:
    reviews = reviewed(tmp_path / "reviews.jsonl", da="good", db="good", dc="bad")
    reviews = reviewed(tmp_path / "reviews.jsonl", da="bad")
    said = reviews_of([("b.png", TWO), ("a, 1.png", ONE), ("c.png", "d" * 64)], reviews)
    assert [(path, one.verdict) for path, one in said.items()] == [("a, 1.png", "bad"), ("b.png", "good")]
    assert read_data_reviews(tmp_path) == {}
    write_data_reviews(tmp_path, said)
    assert read_data_reviews(tmp_path) == said
    write_data_reviews(tmp_path, {})
    assert not (tmp_path / "reviews.csv").exists()


def test_what_an_earlier_release_wrote_with_a_bare_carriage_return_is_read_and_written_anew(
    tmp_path: Path,
) -> None:
    said = {
        "a.png": Review(image_sha256=ONE, verdict="bad", who="A\rB", when=WHEN),
        "cr\rx.png": Review(image_sha256=TWO, verdict="good", who="=cmd", when=WHEN),
    }
    when = "2026-01-02T03:04:05+00:00"
    lines = [",".join((path, one.image_sha256, one.verdict, one.who, when)) for path, one in said.items()]
    old = "".join(f"{line}\n" for line in ["path,sha256,verdict,who,when", *lines])
    (tmp_path / "reviews.csv").write_bytes(old.encode())
    assert read_data_reviews(tmp_path) == said
    assert not are_written(tmp_path, said)
    write_data_reviews(tmp_path, said)
    assert are_written(tmp_path, said)
    assert read_data_reviews(tmp_path) == said
    assert "'=cmd" in (tmp_path / "reviews.csv").read_text()
    assert not are_written(tmp_path, {})


@pytest.mark.parametrize("text", ["path,verdict\na,good\n", "\xff", None])
def test_a_broken_file_is_refused(tmp_path: Path, text: str | None) -> None:
    write_data_reviews(tmp_path, {"a": Review(image_sha256=ONE, verdict="good", who="Ann")})
    table = tmp_path / "reviews.csv"
    table.write_text(table.read_text().replace("good", "fine") if text is None else text, encoding="latin-1")
    with pytest.raises(DataError, match=r"reviews\.csv: .*restore"):
        read_data_reviews(tmp_path)


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
    changed = apply_reviews(table, reviewed(tmp_path / "reviews.jsonl", da="bad", dc="bad"))
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
    review = Review(image_sha256=sha256_file(good / "1.png"), verdict="bad", who="Ann")
    write_data_reviews(root, {"train/good/1.png": review})
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
