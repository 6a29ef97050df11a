"""Images that the champion or a person refused join once a person finds them good."""

import subprocess
from pathlib import Path

import pytest
from toy_inbox import contents, picture, records, scores_with, settings

from reconpatch.data.manifest import build_manifest
from reconpatch.data.reviews import Review, append_review, read_data_reviews
from reconpatch.storage.atomic_files import sha256_file
from tasks.operations.ingest import ingest

pytestmark = pytest.mark.slow


def test_a_person_releases_what_was_suspicious(project: Path) -> None:
    odd = picture(project / "inbox/nut/odd.png", "odd")
    digest = sha256_file(odd)
    scorer = scores_with(odd)
    ingest(settings(), "nut", project, scorer=scorer)
    assert records(project) == {"odd.png": "suspicious"}
    assert ingest(settings(), "nut", project, scorer=scorer) == []
    append_review(project / "reviews.jsonl", Review(image_sha256=digest, verdict="good", who="Ann"))
    (batch,) = ingest(settings(), "nut", project, scorer=scorer)
    assert (batch.count, batch.quarantined) == (1, 0)
    assert records(project) == {}
    assert contents(project / "data/toy/nut/train")[digest] == 1


def test_what_a_person_rejected_may_be_released_and_verdicts_become_part_of_the_data(project: Path) -> None:
    nut, table = project / "data/toy/nut", project / "reviews.jsonl"
    odd = picture(project / "inbox/nut/odd.png", "odd")
    digest = sha256_file(odd)
    append_review(table, Review(image_sha256=digest, verdict="bad", who="Ann"))
    ingest(settings(), "nut", project, scorer=scores_with())
    assert records(project) == {"odd.png": "rejected"}
    assert not (nut / "reviews.csv").exists()  # nobody spoke of an image of the data set

    append_review(table, Review(image_sha256=digest, verdict="good", who="Bob"))
    tested = sha256_file(nut / "test/good/part7_a.png")
    append_review(table, Review(image_sha256=tested, verdict="bad", who="Bob"))
    (batch,) = ingest(settings(), "nut", project, scorer=scores_with())
    assert (batch.count, records(project)) == (1, {})
    said = {path: (one.image_sha256, one.verdict, one.who) for path, one in read_data_reviews(nut).items()}
    assert said == {
        "test/good/part7_a.png": (tested, "bad", "Bob"),
        f"train/good/arrivals-{batch.batch}/odd.png": (digest, "good", "Bob"),
    }
    assert ingest(settings(), "nut", project, scorer=scores_with()) == []

    append_review(table, Review(image_sha256=tested, verdict="good", who="Cy"))
    (batch,) = ingest(settings(), "nut", project, scorer=scores_with())
    assert (batch.count, batch.quarantined, batch.commit is not None) == (0, 0, True)
    manifest = build_manifest(nut, settings().data).set_index("path")
    assert manifest.loc["test/good/part7_a.png", "verdict"] == "good"
    command = ["git", "show", "--name-only", "--format=%s", "HEAD"]
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    assert shown.split("\n") == ["toy: reviews of images of nut", "", "data/toy.dvc", ""]
