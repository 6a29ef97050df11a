import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reconpatch.data.reviews import Review
from reconpatch.errors import DataError
from reconpatch.line.inbox.join_plan import JoinPlan, Move

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MOVES = (
    Move("inbox/a.png", "a.png", "a" * 64, "lot1"),
    Move("inbox/b.png", "b-1.png", "b" * 64, record={"reason": "suspicious"}),
)
REVIEWS = {"train/good/a.png": Review(image_sha256="c" * 64, verdict="bad", who="Ann", when=WHEN)}
# As the release before the redrawn house writes it.
EARLIER = {
    "batch": "0123",
    "folder": "train/good/batch-0123",
    "moves": [
        {"source": "inbox/a.png", "target": "a.png", "sha256": "a" * 64, "group": "lot1", "record": None},
        {
            "source": "inbox/b.png",
            "target": "b-1.png",
            "sha256": "b" * 64,
            "group": "",
            "record": {"reason": "suspicious"},
        },
    ],
    "verdicts": [
        {
            "path": "train/good/a.png",
            "sha256": "c" * 64,
            "verdict": "bad",
            "who": "Ann",
            "when": "2026-01-02T03:04:05+00:00",
        }
    ],
}


def test_a_plan_is_written_and_read_as_an_earlier_release_does(tmp_path: Path) -> None:
    path = tmp_path / ".plan.json"
    assert JoinPlan.read(path) is None
    plan = JoinPlan("0123", "train/good/batch-0123", MOVES, REVIEWS)
    plan.write(path)
    assert json.loads(path.read_text()) == EARLIER
    assert JoinPlan.read(path) == plan
    replace(plan, reviews=None).write(path)
    assert JoinPlan.read(path) == replace(plan, reviews=None)


@pytest.mark.parametrize(
    "change", [{"moves": None}, {"verdicts": [{}]}, {"verdicts": ["x"]}, {"verdicts": [1]}]
)
def test_a_damaged_plan_is_refused_and_named(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / ".plan.json"
    path.write_text(json.dumps(EARLIER | change))
    with pytest.raises(DataError, match=r"\.plan\.json: is no plan"):
        JoinPlan.read(path)
