"""A kill at any moment of an ingest loses and doubles nothing."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from toy_inbox import VALUES, contents, picture, settings
from waiting import wait_for

from reconpatch.data.reviews import Review, append_review, read_data_reviews
from reconpatch.storage.atomic_files import sha256_file
from tasks.operations.arrival_scores import NO_CHAMPION
from tasks.operations.ingest import ingest
from tasks.running.dvc_commit import DvcBusyError

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[4]
KILLS = 20 if os.environ.get("RECONPATCH_SOAK") == "1" else 2
RUN = f"""
import sys
from pathlib import Path
from reconpatch.settings import parse_settings
from tasks.operations.arrival_scores import NO_CHAMPION
from tasks.operations.ingest import ingest

print("started", flush=True)
ingest(parse_settings({VALUES!r}), "nut", Path(sys.argv[1]), scorer=lambda *_: NO_CHAMPION)
"""


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
            [sys.executable, "-c", RUN, str(project)], cwd=ROOT, stdout=subprocess.PIPE, text=True
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
        assert [one.image_sha256 for one in read_data_reviews(project / "data/toy/nut").values()] == [judged]
        status = [sys.executable, "-m", "dvc", "status", "data/toy.dvc", "--json"]
        assert subprocess.run(status, cwd=project, capture_output=True, check=True).stdout.strip() == b"{}"


def _run_again(project: Path) -> None:
    """As the flow does: a dvc that outlived the one who called it is waited for."""

    def free() -> bool:
        try:
            ingest(settings(), "nut", project, scorer=lambda *_: NO_CHAMPION)
        except DvcBusyError:
            return False
        return True

    wait_for("dvc", free)
