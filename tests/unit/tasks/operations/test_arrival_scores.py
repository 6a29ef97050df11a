"""What the champion's scores do to arrivals, and that they touch no calibration lot."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from toy_inbox import VALUES, contents, picture, records, scores_with, settings

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.data.batch_folders import is_in_lot
from reconpatch.data.manifest import build_manifest
from reconpatch.data.nominal_split import is_drawn, split_nominal
from reconpatch.data.reviews import Review, append_review
from reconpatch.data.training_images import training_images
from reconpatch.integrations.data_checks import check_manifest
from reconpatch.line.inbox.arrivals import SUSPICIOUS, Refusal
from reconpatch.settings import Settings, ValidateSettings, parse_settings
from reconpatch.storage.atomic_files import sha256_file, sha256_json
from tasks.operations.arrival_scores import ArrivalScores, limit_to_wait
from tasks.operations.ingest import ingest

pytestmark = pytest.mark.slow


def drawn(names: range, share: float, into_lot: bool) -> list[str]:
    """Pictures that the calibration lot takes, or does not."""
    digests = {str(name): hashlib.sha256(_png(str(name))).hexdigest() for name in names}
    return [name for name, digest in digests.items() if is_drawn(digest, share) == into_lot]


def _png(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return picture(Path(folder) / "a.png", name).read_bytes()


def with_lot(share: float = 0.3, **values: object) -> Settings:
    return parse_settings(
        {**VALUES, "ingest": {**VALUES["ingest"], **values}, "calibrate": {"holdout": share}}
    )


def all_suspicious(puts_aside: bool = True):
    """A champion that finds every image suspicious, and has drawn a heat map of each."""

    def scorer(
        _settings: Settings, _category: str, _project: Path, images: list[Path], folder: Path
    ) -> ArrivalScores:
        found, heatmaps = {}, {}
        for path in images:
            digest = sha256_file(path)
            found[digest], heatmaps[digest] = Refusal(SUSPICIOUS, "score 9"), f"heat-{digest[:6]}.png"
            picture(folder / heatmaps[digest], digest)
        return ArrivalScores("m/1", frozenset(), found, heatmaps, None if puts_aside else frozenset())

    return scorer


def test_no_score_keeps_an_image_of_the_calibration_lot_waiting(project: Path) -> None:
    inbox, nut, table = project / "inbox/nut", project / "data/toy/nut", project / "reviews.jsonl"
    lot, fit = (drawn(range(40), 0.3, wanted)[:4] for wanted in (True, False))
    for name in [*lot, *fit]:
        picture(inbox / f"x{name}.png", name)
    digests = {name: sha256_file(inbox / f"x{name}.png") for name in [*lot, *fit]}
    append_review(table, Review(image_sha256=digests[lot[3]], verdict="bad", who="Ann"))
    before = contents(inbox)
    (batch,) = ingest(with_lot(), "nut", project, scorer=all_suspicious())
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
    (batch,) = ingest(with_lot(), "nut", project, scorer=all_suspicious())
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
        ingest(with_lot(share=0.3 if day == "a" else 0.0), "nut", project, scorer=scores_with())
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
    (batch,) = ingest(settings(), "nut", project, scorer=all_suspicious(puts_aside=False))
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
