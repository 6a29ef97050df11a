"""Arrivals: what joins, and what is put aside and why."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from toy_inbox import contents, picture, records, scores_with, settings

from reconpatch.data.manifest import build_manifest
from reconpatch.data.reviews import Review, append_review
from reconpatch.errors import DataError
from reconpatch.line.inbox.arrivals import SUSPICIOUS, Refusal
from reconpatch.storage.atomic_files import sha256_file
from tasks.operations.arrival_scores import ArrivalScores
from tasks.operations.ingest import Ingested, ingest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[4]


def test_each_arrival_joins_or_is_put_aside_with_its_reason(project: Path) -> None:
    inbox, nut = project / "inbox/nut", project / "data/toy/nut"
    picture(inbox / "part20_a.png", "new")
    picture(inbox / "deep/part21_a.png", "newer")
    (inbox / "empty.png").touch()
    picture(inbox / "again.png", "train/good/part1_a")
    picture(inbox / "twin.png", "new")
    picture(inbox / "tested.png", "test/good/part7_a")
    copy = np.asarray(Image.open(nut / "test/good/part8_a.png")).astype(int) + 2
    Image.fromarray(copy.clip(0, 255).astype(np.uint8)).save(inbox / "near.png")
    picture(inbox / "part7_b.png", "same part")
    picture(inbox / "part3_b.png", "part of calibration")
    odd = picture(inbox / "odd.png", "odd")
    bad = picture(inbox / "bad.png", "bad")
    append_review(project / "reviews.jsonl", Review(image_sha256=sha256_file(bad), verdict="bad", who="Ann"))
    before = contents(inbox)
    held = frozenset([sha256_file(nut / "train/good/part3_a.png")])
    announced: list[Ingested] = []
    (batch,) = ingest(settings(), "nut", project, announce=announced.append, scorer=scores_with(odd, held))
    assert announced == [batch]
    assert (batch.count, batch.quarantined) == (2, 9)
    assert records(project) == {
        "empty.png": "unreadable", "again.png": "duplicate", "twin.png": "duplicate",
        "tested.png": "evaluation", "near.png": "evaluation", "part7_b.png": "evaluation",
        "part3_b.png": "calibration", "odd.png": "suspicious", "bad.png": "rejected",
    }  # fmt: skip
    joined = nut / f"train/good/arrivals-{batch.batch}"
    assert {path.relative_to(joined).as_posix() for path in joined.rglob("*.png")} == {
        "part20_a.png",
        "deep/part21_a.png",
    }
    assert not list(inbox.rglob("*.png"))
    assert contents(joined, project / "quarantine") == before
    shown = subprocess.run(
        ["git", "show", "--name-only", "--format=", "HEAD"], cwd=project, capture_output=True, text=True
    )
    assert shown.stdout.split() == ["data/toy.dvc"]
    assert batch.data_hash in (project / "data/toy.dvc").read_text()
    assert len(build_manifest(nut, settings().data)) == 7
    assert not (nut / "groups.csv").exists()  # the pattern tells them
    assert ingest(settings(), "nut", project, scorer=scores_with()) == []


def test_a_torn_record_a_link_and_an_odd_name_are_named_and_the_rest_goes_on(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, aside = project / "inbox/nut", project / "quarantine/toy/nut"
    odd, other = picture(inbox / "odd.png", "odd"), picture(inbox / "other.png", "other")
    digests = [sha256_file(odd), sha256_file(other)]
    found = {digest: Refusal(SUSPICIOUS, "score 9") for digest in digests}
    ingest(
        settings(),
        "nut",
        project,
        scorer=lambda *_: ArrivalScores("reconpatch-toy-nut/1", frozenset(), found),
    )
    (torn,) = (path for path in aside.glob("*.json") if json.loads(path.read_text())["name"] == "odd.png")
    torn.write_bytes(torn.read_bytes()[:40])
    for digest in digests:
        append_review(project / "reviews.jsonl", Review(image_sha256=digest, verdict="good", who="Ann"))
    (inbox / "self.png").symlink_to("self.png")
    (inbox / "cr\rx.png").write_bytes((project / "data/toy/nut/train/good/part1_a.png").read_bytes())
    (batch,) = ingest(settings(), "nut", project, scorer=scores_with())
    assert (batch.count, batch.quarantined) == (1, 0)
    assert contents(project / "data/toy/nut/train")[digests[1]] == 1
    assert torn.with_suffix("").is_file()
    assert f"{torn}: is no record of the quarantine" in caplog.text
    assert "self.png: is left in the inbox: it is a link to no file" in caplog.text
    assert "cr\\rx.png: is left in the inbox: it has a name that holds control characters" in caplog.text
    # dvc records no data set with a link to nothing: that is found before anything moves.
    (project / "data/toy/nut/test/good/lost").symlink_to("lost")
    new = picture(inbox / "part30_a.png", "new")
    with pytest.raises(DataError, match=r"test/good/lost: is a link to nothing.*remove the link"):
        ingest(settings(), "nut", project, scorer=scores_with())
    assert new.is_file()
    (project / "data/toy/nut/test/good/lost").unlink()
    (batch,) = ingest(settings(), "nut", project, scorer=scores_with())
    assert batch.count == 1


def test_an_inbox_that_is_kept_is_taken_once_and_young_files_wait(project: Path) -> None:
    picture(project / "inbox/nut/a.png", "a")
    picture(project / "inbox/nut/b.png", "train/good/part1_a")
    assert ingest(settings(settle_seconds=1000.0), "nut", project, scorer=scores_with()) == []
    (batch,) = ingest(settings(keep_inbox=True), "nut", project, scorer=scores_with())
    assert (batch.count, batch.quarantined) == (1, 1)
    assert ingest(settings(keep_inbox=True), "nut", project, scorer=scores_with()) == []
    assert len(list((project / "inbox/nut").iterdir())) == 2


def test_a_file_dated_in_times_to_come_joins_once_it_is_settled_here(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    camera = picture(project / "inbox/nut/camera.png", "a")
    ahead = time.time() + 365 * 24 * 3600
    os.utime(camera, (ahead, ahead))
    assert ingest(settings(settle_seconds=1000.0), "nut", project, scorer=scores_with()) == []
    (batch,) = ingest(settings(), "nut", project, scorer=scores_with())
    assert (batch.count, caplog.messages) == (1, [])

    picture(project / "inbox/nut/share.png", "b")  # on a share whose server's clock is a day ahead
    behind = SimpleNamespace(**{**vars(time), "time": lambda: time.time() - 24 * 3600})
    monkeypatch.setattr("tasks.operations.ingest.time", behind)
    assert ingest(settings(), "nut", project, scorer=scores_with()) == []
    (told,) = set(caplog.messages)
    assert "inbox/nut/share.png: is left in the inbox until" in told


def test_a_camera_share_that_dvc_imports_is_taken_as_it_grows(project: Path, tmp_path: Path) -> None:
    def dvc(*arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "dvc", *arguments, "-q"], cwd=project, check=True, capture_output=True
        )

    shutil.copy(ROOT / ".gitignore", project)
    share = tmp_path / "share"
    picture(share / "nut/a.png", "a")
    dvc("import-url", str(share), "data/camera")
    values = settings(inbox="data/camera", keep_inbox=True)
    (batch,) = ingest(values, "nut", project, scorer=scores_with())
    assert (batch.count, batch.quarantined) == (1, 0)
    picture(share / "nut/b.png", "b")
    assert ingest(values, "nut", project, scorer=scores_with()) == []  # DVC holds the import at its version
    dvc("update", "data/camera.dvc")
    (batch,) = ingest(values, "nut", project, scorer=scores_with())
    assert (batch.count, batch.quarantined) == (1, 0)
    assert len(list((project / "data/toy/nut/train").rglob("[ab].png"))) == 2
    assert len(list((share / "nut").iterdir())) == 2
