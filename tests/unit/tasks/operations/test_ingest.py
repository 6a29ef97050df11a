"""Arrivals: what joins, what is put aside and why, and that a kill loses and doubles nothing."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.data.batch_folders import is_in_lot
from reconpatch.data.manifest import build_manifest
from reconpatch.data.nominal_split import is_drawn, split_nominal
from reconpatch.data.reviews import Review, append_review
from reconpatch.data.training_images import training_images
from reconpatch.data.verdicts import read_verdicts
from reconpatch.errors import DataError
from reconpatch.integrations.data_checks import check_manifest
from reconpatch.line.inbox.arrivals import SUSPICIOUS, Refusal
from reconpatch.settings import Settings, ValidateSettings, parse_settings
from reconpatch.storage.atomic_files import sha256_file, sha256_json
from tasks.operations.ingest import Ingested, Judged, ingest, limit_to_wait
from tasks.running.dvc_commit import DvcBusyError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[4]
KILLS = 20 if os.environ.get("RECONPATCH_SOAK") == "1" else 2
_VALUES = {
    "pipeline": {"dataset": "toy", "root": "data/toy", "categories": ["nut"]},
    "ingest": {"settle_seconds": 0.0},
    "data": {"group_pattern": r"part(\d+)_"},
    "calibrate": {"holdout": 0.0},  # no calibration lot, but where a test is about it
}
_RUN = f"""
import sys
from pathlib import Path
from reconpatch.settings import parse_settings
from tasks.operations.ingest import Judged, ingest
nobody = Judged(None, frozenset(), {{}})
print("started", flush=True)
ingest(parse_settings({_VALUES!r}), "nut", Path(sys.argv[1]), judge=lambda *_: nobody)
"""


def settings(**values: object) -> Settings:
    return parse_settings({**_VALUES, "ingest": {**_VALUES["ingest"], **values}})


def picture(path: Path, name: str, size: int = 32) -> Path:
    coarse = np.random.default_rng(list(name.encode())).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `project` copies: starting DVC takes seconds."""
    root = tmp_path_factory.mktemp("template") / "project"
    for name in ("train/good/part1_a", "train/good/part2_a", "train/good/part3_a"):
        picture(root / f"data/toy/nut/{name}.png", name)
    for name in ("test/good/part7_a", "test/good/part8_a"):
        picture(root / f"data/toy/nut/{name}.png", name)
    (root / "inbox" / "nut").mkdir(parents=True)
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "add", "-q", "data/toy"],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A data set of three training and two test images under DVC and git, and an empty inbox."""
    return Path(shutil.copytree(template, tmp_path / "project", symlinks=True))


def judge_with(suspicious: Path | None = None, held_out: frozenset[str] = frozenset()):
    found = {} if suspicious is None else {sha256_file(suspicious): Refusal(SUSPICIOUS, "score 9")}
    return lambda *_: Judged("reconpatch-toy-nut/1", held_out, found)


def contents(*folders: Path) -> Counter[str]:
    images = [path for folder in folders for path in folder.rglob("*.png")]
    return Counter(sha256_file(path) for path in images)


def records(project: Path) -> dict[str, str]:
    found = [json.loads(path.read_text()) for path in (project / "quarantine/toy/nut").glob("*.png.json")]
    return {record["name"]: record["reason"] for record in found}


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
    (batch,) = ingest(settings(), "nut", project, announce=announced.append, judge=judge_with(odd, held))
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
    assert ingest(settings(), "nut", project, judge=judge_with()) == []


def test_a_person_releases_what_was_suspicious(project: Path) -> None:
    odd = picture(project / "inbox/nut/odd.png", "odd")
    digest = sha256_file(odd)
    judge = judge_with(odd)
    ingest(settings(), "nut", project, judge=judge)
    assert records(project) == {"odd.png": "suspicious"}
    assert ingest(settings(), "nut", project, judge=judge) == []
    append_review(project / "reviews.jsonl", Review(image_sha256=digest, verdict="good", who="Ann"))
    (batch,) = ingest(settings(), "nut", project, judge=judge)
    assert (batch.count, batch.quarantined) == (1, 0)
    assert records(project) == {}
    assert contents(project / "data/toy/nut/train")[digest] == 1


def test_a_torn_record_a_link_and_an_odd_name_are_named_and_the_rest_goes_on(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, aside = project / "inbox/nut", project / "quarantine/toy/nut"
    odd, other = picture(inbox / "odd.png", "odd"), picture(inbox / "other.png", "other")
    digests = [sha256_file(odd), sha256_file(other)]
    found = {digest: Refusal(SUSPICIOUS, "score 9") for digest in digests}
    ingest(settings(), "nut", project, judge=lambda *_: Judged("reconpatch-toy-nut/1", frozenset(), found))
    (torn,) = (path for path in aside.glob("*.json") if json.loads(path.read_text())["name"] == "odd.png")
    torn.write_bytes(torn.read_bytes()[:40])
    for digest in digests:
        append_review(project / "reviews.jsonl", Review(image_sha256=digest, verdict="good", who="Ann"))
    (inbox / "self.png").symlink_to("self.png")
    (inbox / "cr\rx.png").write_bytes((project / "data/toy/nut/train/good/part1_a.png").read_bytes())
    (batch,) = ingest(settings(), "nut", project, judge=judge_with())
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
        ingest(settings(), "nut", project, judge=judge_with())
    assert new.is_file()
    (project / "data/toy/nut/test/good/lost").unlink()
    (batch,) = ingest(settings(), "nut", project, judge=judge_with())
    assert batch.count == 1


def test_what_a_person_rejected_may_be_released_and_verdicts_become_part_of_the_data(project: Path) -> None:
    nut, table = project / "data/toy/nut", project / "reviews.jsonl"
    odd = picture(project / "inbox/nut/odd.png", "odd")
    digest = sha256_file(odd)
    append_review(table, Review(image_sha256=digest, verdict="bad", who="Ann"))
    ingest(settings(), "nut", project, judge=judge_with())
    assert records(project) == {"odd.png": "rejected"}
    assert not (nut / "reviews.csv").exists()  # nobody spoke of an image of the data set

    append_review(table, Review(image_sha256=digest, verdict="good", who="Bob"))
    tested = sha256_file(nut / "test/good/part7_a.png")
    append_review(table, Review(image_sha256=tested, verdict="bad", who="Bob"))
    (batch,) = ingest(settings(), "nut", project, judge=judge_with())
    assert (batch.count, records(project)) == (1, {})
    said = {one.path: (one.sha256, one.verdict, one.who) for one in read_verdicts(nut)}
    assert said == {
        "test/good/part7_a.png": (tested, "bad", "Bob"),
        f"train/good/arrivals-{batch.batch}/odd.png": (digest, "good", "Bob"),
    }
    assert ingest(settings(), "nut", project, judge=judge_with()) == []

    append_review(table, Review(image_sha256=tested, verdict="good", who="Cy"))
    (batch,) = ingest(settings(), "nut", project, judge=judge_with())
    assert (batch.count, batch.quarantined, batch.commit is not None) == (0, 0, True)
    manifest = build_manifest(nut, settings().data).set_index("path")
    assert manifest.loc["test/good/part7_a.png", "verdict"] == "good"
    command = ["git", "show", "--name-only", "--format=%s", "HEAD"]
    shown = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    assert shown.split("\n") == ["toy: verdicts on images of nut", "", "data/toy.dvc", ""]


def test_an_inbox_that_is_kept_is_taken_once_and_young_files_wait(project: Path) -> None:
    picture(project / "inbox/nut/a.png", "a")
    picture(project / "inbox/nut/b.png", "train/good/part1_a")
    assert ingest(settings(settle_seconds=1000.0), "nut", project, judge=judge_with()) == []
    (batch,) = ingest(settings(keep_inbox=True), "nut", project, judge=judge_with())
    assert (batch.count, batch.quarantined) == (1, 1)
    assert ingest(settings(keep_inbox=True), "nut", project, judge=judge_with()) == []
    assert len(list((project / "inbox/nut").iterdir())) == 2


def test_a_file_dated_in_times_to_come_joins_once_it_is_settled_here(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    camera = picture(project / "inbox/nut/camera.png", "a")
    ahead = time.time() + 365 * 24 * 3600
    os.utime(camera, (ahead, ahead))
    assert ingest(settings(settle_seconds=1000.0), "nut", project, judge=judge_with()) == []
    (batch,) = ingest(settings(), "nut", project, judge=judge_with())
    assert (batch.count, caplog.messages) == (1, [])

    picture(project / "inbox/nut/share.png", "b")  # on a share whose server's clock is a day ahead
    behind = SimpleNamespace(**{**vars(time), "time": lambda: time.time() - 24 * 3600})
    monkeypatch.setattr("tasks.operations.ingest.time", behind)
    assert ingest(settings(), "nut", project, judge=judge_with()) == []
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
    (batch,) = ingest(values, "nut", project, judge=judge_with())
    assert (batch.count, batch.quarantined) == (1, 0)
    picture(share / "nut/b.png", "b")
    assert ingest(values, "nut", project, judge=judge_with()) == []  # DVC holds the import at its version
    dvc("update", "data/camera.dvc")
    (batch,) = ingest(values, "nut", project, judge=judge_with())
    assert (batch.count, batch.quarantined) == (1, 0)
    assert len(list((project / "data/toy/nut/train").rglob("[ab].png"))) == 2
    assert len(list((share / "nut").iterdir())) == 2


def test_killed_at_any_moment_and_run_again_nothing_is_lost_or_doubled(project: Path) -> None:
    inbox, moments = project / "inbox/nut", np.random.default_rng(0)
    expected: Counter[str] = contents(project / "data")
    judged = sha256_file(project / "data/toy/nut/train/good/part1_a.png")
    append_review(project / "reviews.jsonl", Review(image_sha256=judged, verdict="good", who="Ann"))
    usual = 1.0
    for kill in range(-1, KILLS):  # the first is left alone, to know how long one takes here and now
        for number in range(20):
            picture(inbox / f"{kill}-{number}.png", f"{kill}-{number}")
        picture(inbox / f"{kill}-twin.png", f"{kill}-0")
        expected += contents(inbox)
        with subprocess.Popen(
            [sys.executable, "-c", _RUN, str(project)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            start = time.monotonic()
            if kill < 0:
                process.wait()
                usual = time.monotonic() - start
            else:
                time.sleep(moments.uniform(0, usual))
                os.kill(process.pid, signal.SIGKILL)
        _run_again(project)
        assert contents(project / "data", project / "quarantine") == expected
        assert not list(inbox.iterdir())
        assert not list((project / "data").glob(".*.arrivals"))
        assert [one.sha256 for one in read_verdicts(project / "data/toy/nut")] == [judged]
        status = [sys.executable, "-m", "dvc", "status", "data/toy.dvc", "--json"]
        assert subprocess.run(status, cwd=project, capture_output=True, check=True).stdout.strip() == b"{}"


def _run_again(project: Path) -> None:
    """As the flow does: a dvc that outlived the one who called it is waited for."""

    def free() -> bool:
        try:
            ingest(settings(), "nut", project, judge=lambda *_: Judged(None, frozenset(), {}))
        except DvcBusyError:
            return False
        return True

    wait_for("dvc", free)


def _remove_locks(project: Path) -> None:
    """A killed git leaves its lock, which a person removes."""
    (project / ".git/index.lock").unlink(missing_ok=True)


def drawn(names: range, share: float, into_lot: bool) -> list[str]:
    """Pictures that the calibration lot takes, or does not."""
    digests = {str(name): hashlib.sha256(_png(str(name))).hexdigest() for name in names}
    return [name for name, digest in digests.items() if is_drawn(digest, share) == into_lot]


def _png(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return picture(Path(folder) / "a.png", name).read_bytes()


def with_lot(share: float = 0.3, **values: object) -> Settings:
    return parse_settings(
        {**_VALUES, "ingest": {**_VALUES["ingest"], **values}, "calibrate": {"holdout": share}}
    )


def judge_all(puts_aside: bool = True):
    """A champion that finds every image suspicious, and has drawn a heat map of each."""

    def judge(
        _settings: Settings, _category: str, _project: Path, images: list[Path], folder: Path
    ) -> Judged:
        found, heatmaps = {}, {}
        for path in images:
            digest = sha256_file(path)
            found[digest], heatmaps[digest] = Refusal(SUSPICIOUS, "score 9"), f"heat-{digest[:6]}.png"
            picture(folder / heatmaps[digest], digest)
        return Judged("m/1", frozenset(), found, heatmaps, None if puts_aside else frozenset())

    return judge


def test_no_score_keeps_an_image_of_the_calibration_lot_waiting(project: Path) -> None:
    inbox, nut, table = project / "inbox/nut", project / "data/toy/nut", project / "reviews.jsonl"
    lot, fit = (drawn(range(40), 0.3, wanted)[:4] for wanted in (True, False))
    for name in [*lot, *fit]:
        picture(inbox / f"x{name}.png", name)
    digests = {name: sha256_file(inbox / f"x{name}.png") for name in [*lot, *fit]}
    append_review(table, Review(image_sha256=digests[lot[3]], verdict="bad", who="Ann"))
    before = contents(inbox)
    (batch,) = ingest(with_lot(), "nut", project, judge=judge_all())
    assert (batch.count, batch.flagged, batch.quarantined) == (3, 3, 5)
    reasons = {f"x{name}.png": "flagged" for name in lot[:3]} | {f"x{name}.png": "suspicious" for name in fit}
    assert records(project) == reasons | {f"x{lot[3]}.png": "rejected"}
    joined = nut / f"train/good/arrivals-{batch.batch}/+calibration"
    assert {path.name for path in joined.iterdir()} == {f"x{name}.png" for name in lot[:3]}
    assert contents(nut / "train", project / "quarantine/toy/nut") >= before
    rows = build_manifest(nut, with_lot().data).query("split == 'train'")
    split = split_nominal(rows["path"].tolist(), rows["group"].tolist(), rows["sha256"].tolist(), with_lot())
    assert {rows["sha256"].iloc[i] for i in split.holdout} >= {digests[name] for name in lot[:3]}

    # A person looks: two are good, which only clears the list; one is bad, and no fit takes it any more.
    for name, verdict in zip(lot[:3], ("good", "good", "bad"), strict=True):
        append_review(table, Review(image_sha256=digests[name], verdict=verdict, who="Ann"))
    append_review(table, Review(image_sha256=digests[fit[0]], verdict="good", who="Ann"))
    (batch,) = ingest(with_lot(), "nut", project, judge=judge_all())
    assert (batch.count, batch.flagged, batch.quarantined) == (1, 0, 0)
    released = nut / f"train/good/arrivals-{batch.batch}"
    assert [path.name for path in released.iterdir()] == [
        f"x{fit[0]}.png"
    ]  # a score chose it: it is of no lot
    assert records(project) == {
        **{f"x{name}.png": "suspicious" for name in fit[1:]},
        f"x{lot[2]}.png": "flagged",
        f"x{lot[3]}.png": "rejected",
    }
    heatmaps = {path.name for path in (project / "quarantine/toy/nut/heatmaps").iterdir()}
    assert heatmaps == {f"heat-{digests[name][:6]}.png" for name in [*fit[1:], *lot[2:]]}
    for images in (nut, build_manifest(nut, with_lot().data)):
        taken = {sha256_file(path) for path in training_images(images, with_lot().data).paths}
        assert digests[lot[2]] not in taken
        assert {digests[lot[0]], digests[lot[1]], digests[fit[0]]} < taken
    problems = check_manifest(
        build_manifest(nut, with_lot().data), ValidateSettings(min_train_images=1)
    ).problems
    (problem,) = [one for one in problems if one.expectation == "arrival_is_not_judged_bad"]
    assert (problem.severity, problem.path) == (
        "warning",
        f"train/good/{joined.parent.name}/+calibration/x{lot[2]}.png",
    )
    assert "train_is_not_judged_bad" not in {one.expectation for one in problems}


def test_a_part_goes_to_the_lot_whole_however_often_it_comes(project: Path) -> None:
    inbox, nut = project / "inbox/nut", project / "data/toy/nut"
    part = next(number for number in range(20, 99) if is_drawn(sha256_json(str(number)), 0.3))
    other = next(number for number in range(20, 99) if not is_drawn(sha256_json(str(number)), 0.3))
    for day in ("a", "b"):
        for number in (part, other, 1):  # part 1 was there from the start
            picture(inbox / f"part{number}_{day}.png", f"{number}{day}")
        ingest(with_lot(share=0.3 if day == "a" else 0.0), "nut", project, judge=judge_with())
    assert not (nut / "groups.csv").exists()  # the pattern finds a part of the lot, too
    table = build_manifest(nut, with_lot().data)
    lot = table.loc[table["path"].map(is_in_lot).astype(bool), "group"]
    assert lot.tolist() == [str(part)] * 2
    assert set(table.loc[table["group"] == str(other), "path"].map(is_in_lot)) == {False}
    assert set(table.loc[table["group"] == "1", "path"].map(is_in_lot)) == {False}


def test_a_champion_of_a_few_groups_puts_nothing_aside_by_score(project: Path) -> None:
    inbox = project / "inbox/nut"
    for name in "ab":
        picture(inbox / f"{name}.png", name)
    (batch,) = ingest(settings(), "nut", project, judge=judge_all(puts_aside=False))
    assert (batch.count, batch.flagged, batch.quarantined) == (2, 2, 0)
    assert set(records(project).values()) == {"flagged"}


@pytest.mark.parametrize(
    ("groups", "most", "suspicious", "waits"),
    [
        (
            6,
            0.1,
            "review",
            None,
        ),  # 2 of 7 good images lie above the limit for review, 1 of 7 above the threshold
        (9, 0.1, "review", "threshold"),
        (18, 0.1, "review", "threshold"),
        (19, 0.1, "review", "review"),
        (8, 0.1, "reject", None),
        (9, 0.1, "reject", "threshold"),
        (3, 1.0, "review", "review"),
        (150, 0.1, "review", "review"),
    ],
)
def test_an_arrival_waits_above_a_limit_that_few_good_images_exceed(
    groups: int, most: float, suspicious: str, waits: str | None
) -> None:
    scores = np.arange(groups) / 7
    calibration = calibrate_scores(scores, scores, scores)
    given = settings(most_false_rejects=most, suspicious=suspicious).ingest
    assert limit_to_wait(calibration, given) == (None if waits is None else getattr(calibration, waits))
