"""A line that runs by itself: `make serve-flows`, images in the inbox, and nothing else but events."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from mlflow import MlflowClient
from PIL import Image
from processes import free_port
from waiting import PATIENCE, wait_for

from reconpatch.settings import load_settings
from reconpatch.storage.file_locks import file_lock
from tasks.registry.champion import champion_folder, find_champion
from tasks.registry.lineage_tags import data_hash
from tasks.running.content_hashes import Hasher

ROOT = Path(__file__).resolve().parents[2]
SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
FEEDS = 5 if SOAK else 2  # of 10 images each
NAME = "reconpatch-tiny-plain"
# What passes becomes champion by itself; four test images could not tell whether one is worse.
_POLICY = "promotion: automatic\nnot_worse: {}\n"
# Whoever serves asks for new runs each second, not each tenth.
_PROMPT = {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
_LIMIT_SECONDS = 900  # what a busy machine needs, and no more than a hang may cost


class Line:
    """A small project, served.

    Attributes:
        root: of the project.
        api: the Prefect server's.
    """

    def __init__(self, root: Path, log: Path) -> None:
        self.root, self.log = root, log
        self._port = free_port()
        self.api = f"http://127.0.0.1:{self._port}/api"
        self.faults = ["FAILED", "CRASHED"]  # states of runs that end a test
        self.start()

    def start(self) -> None:
        """`make serve-flows`, as it was started before."""
        hidden = ("PREFECT_API_URL", "PREFECT_HOME", "MLFLOW_TRACKING_URI", "PYTHONPATH")
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                # The virtual environment is there: `setup` counts as done.
                ["make", "-o", "setup", "serve-flows", f"VENV={sys.prefix}", f"FLOWS_PORT={self._port}"],
                cwd=self.root,
                env={key: value for key, value in os.environ.items() if key not in hidden} | _PROMPT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """A power cut, as far as the processes go."""
        make = psutil.Process(self.process.pid)
        for process in (make, *make.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def end(self) -> None:
        """As a service manager does: whoever starts the tests in the background has them ignore Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def ask(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=PATIENCE)
        assert answer.is_success, answer.text
        return answer.json()

    def runs(self, deployment: str, state: str = "COMPLETED") -> list[Any]:
        return self.ask(
            "flow_runs/filter",
            deployments={"name": {"any_": [deployment]}},
            flow_runs={"state": {"type": {"any_": [state]}}},
        )

    def wait_for(self, what: str, ready: Callable[[], Any]) -> Any:
        end = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-5000:]
            try:
                if found := ready():
                    return found
            except httpx.TransportError:  # the server starts
                time.sleep(0.5)
                continue
            failed = self.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": self.faults}}})
            assert not failed, f"{failed[0]['state']['message']}\n{self.log.read_text()[-5000:]}"
            time.sleep(0.5)
        pytest.fail(f"{what}: not within {_LIMIT_SECONDS} s\n{self.log.read_text()[-5000:]}")

    def feed(self, seed: int) -> None:
        """Ten images, and the word that they are there."""
        inbox = self.root / "inbox" / "plain"
        inbox.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng(seed)
        for number in range(10):
            ramp = np.linspace(40, 120, 72)[None, :, None] + np.zeros((72, 72, 3))
            pixels = (ramp + random.normal(0, 8, (72, 72, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(inbox / f"{seed}-{number}.png")
        event = {
            "occurred": datetime.now(UTC).isoformat(),
            "event": "reconpatch.inbox.filled",
            "resource": {"prefect.resource.id": "reconpatch.inbox.plain"},
            "id": str(uuid.uuid4()),
        }
        answer = httpx.post(f"{self.api}/events", json=[event], timeout=PATIENCE)
        assert answer.is_success, answer.text


@pytest.fixture
def line(
    make_project: Callable[..., Any], mlflow_template: Path, prefect_server: Path, tmp_path: Path
) -> Iterator[Line]:
    """`make serve-flows` in a project of its own."""
    project = make_project("line", dents=False)
    shutil.copy(mlflow_template, project.root / "mlflow.db")
    for file in ("Makefile", "prefect.yaml"):
        shutil.copy(ROOT / file, project.root / file)
    project.set("ingest.settle_seconds", 0.0)
    (project.root / "mlflow" / "gate.yaml").write_text(_POLICY)
    subprocess.run(["git", "add", "."], cwd=project.root, check=True)
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *who, "commit", "-qm", "line"], cwd=project.root, check=True)
    (project.root / ".prefect").mkdir()
    shutil.copy(prefect_server, project.root / ".prefect")
    served = Line(project.root, tmp_path / "serve.log")
    try:
        yield served
    finally:
        served.end()


def _served(line: Line) -> list[Any]:
    found = line.ask("deployments/filter")
    return found if found and {one["status"] for one in found} == {"READY"} else []


@pytest.mark.slow
@pytest.mark.server
def test_images_in_the_inbox_become_a_champion_by_events_alone(line: Line) -> None:
    deployed = {one["name"]: one for one in line.wait_for("deployments", lambda: _served(line))}
    assert {"nightly", "on-arrival", "weekly", "inbox"} <= deployed.keys()
    (schedule,) = deployed["nightly"]["schedules"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert schedule["schedule"]["timezone"] == "Europe/Berlin"
    assert deployed["nightly"]["tags"] == ["retrain"]
    assert deployed["nightly"]["global_concurrency_limit"]["limit"] == 1
    line.wait_for("scheduled runs", lambda: line.runs("nightly", "SCHEDULED"))

    for number in range(FEEDS):
        line.feed(number)
        line.wait_for("a retrain", lambda done=number: len(line.runs("on-arrival")) > done)
    settings = load_settings(line.root / "params.yaml")
    champion = find_champion(settings, line.root, "plain")
    assert champion is not None
    assert champion.version == str(FEEDS)
    uri = f"sqlite:///{line.root / 'mlflow.db'}"
    version = MlflowClient(uri, uri).get_model_version(NAME, champion.version)
    assert version.tags["dvc_data_hash"] == data_hash(line.root / "data" / "tiny", line.root)
    hasher = Hasher(line.root)
    folder = line.root / "data" / "tiny" / "plain" / "train"
    images = list(folder.rglob("*.png"))
    # None is lost; of those that joined and are to be looked at, the quarantine holds copies.
    records = [
        json.loads(path.read_text()) for path in (line.root / "quarantine/tiny/plain").glob("*.png.json")
    ]
    aside = [record for record in records if record["reason"] != "flagged"]
    assert len(images) + len(aside) == 12 + 10 * FEEDS
    assert len(images) > 12 + 10
    with champion_folder(champion, settings, line.root) as model:
        from reconpatch.storage.detector_folder import read_training_set

        known = read_training_set(model)
    assert {*known.fit, *known.holdout} == {hasher.file(path) for path in images}
    assert not list((line.root / "inbox").rglob("*.png"))

    # Nothing new: a night's run says so and is done sooner than any that trained.
    (nightly,) = [one["id"] for one in deployed.values() if one["name"] == "nightly"]
    line.ask(f"deployments/{nightly}/create_flow_run", state={"type": "SCHEDULED"})
    (quiet,) = line.wait_for("a quiet run", lambda: line.runs("nightly"))
    assert f"no new data since version {champion.version}" in quiet["state"]["message"]
    assert quiet["total_run_time"] < max(one["total_run_time"] for one in line.runs("on-arrival"))


@pytest.mark.slow
@pytest.mark.server
def test_what_a_kill_of_the_whole_line_interrupts_goes_on_by_itself_after_the_same_start(line: Line) -> None:
    line.wait_for("deployments", lambda: _served(line))
    line.faults = ["FAILED"]
    with file_lock(line.root / ".cache" / "dvc.lock"):
        line.feed(0)
        words = f"dvc.lock, held by process {os.getpid()} on "
        line.wait_for("who waits says so", lambda: _is_logged(line, words))
    plan = line.root / "quarantine" / "tiny" / "plain" / ".plan.json"
    wait_for("an ingest at work", plan.exists)
    line.kill()
    assert plan.exists()
    line.start()
    line.wait_for("the next ingest", lambda: line.runs("inbox"))
    assert len(line.runs("inbox", "CRASHED")) == 1
    line.wait_for("a retrain at work", lambda: (line.root / "outputs" / "tiny" / "plain").exists())
    assert line.runs("on-arrival", "RUNNING")
    line.kill()
    line.start()
    line.wait_for("the next retrain", lambda: line.runs("nightly"))
    assert len(line.runs("on-arrival", "CRASHED")) == 1
    assert not line.runs("on-arrival", "RUNNING")
    assert not list((line.root / "inbox").rglob("*.png"))
    assert len(list((line.root / "data" / "tiny" / "plain" / "train").rglob("*.png"))) == 12 + 10
    champion = find_champion(load_settings(line.root / "params.yaml"), line.root, "plain")
    assert champion is not None
    assert champion.version == "1"


def _is_logged(line: Line, words: str) -> bool:
    return any(words in one["message"] for one in line.ask("logs/filter", sort="TIMESTAMP_DESC"))
