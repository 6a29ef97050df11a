"""The MLflow UI as a person uses it: the best run is seen, the champion chosen with mouse and keyboard."""

import os
import shutil
import sys
from pathlib import Path

import httpx
import pytest
from browser import Tab, browser
from finished_runs import PARAMS, PipelineRun, fit_detector, write_images
from processes import free_port, running
from waiting import wait_for

from reconpatch import ReConPatch
from reconpatch.integrations.mlflow_uri import registered_version
from tasks.registry.promotion import read_log
from tasks.registry.register import register_run

ROOT = Path(__file__).resolve().parents[2]
NAME = "reconpatch-tiny-nut"
URI = f"models:/{NAME}@champion"
EVERY = 1.0
_DIALOG = "document.querySelector('[role=dialog]')"


@pytest.fixture
def run(mlflow_template: Path, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineRun:
    """Version 1 is champion; version 2, with a larger bank, is challenger."""
    root = shutil.copytree(sources, tmp_path / "project")
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copy(mlflow_template, root / "mlflow.db")
    images = write_images(tmp_path / "nut")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    first = PipelineRun(root, fit_detector(images, tmp_path / "first"), images)
    register_run(first.settings(), [first.finish()])
    ReConPatch(params=PARAMS | {"coreset.ratio": 0.5}).fit(images).save(tmp_path / "second")
    second = PipelineRun(root, tmp_path / "second", images)
    (model,) = register_run(second.settings(), [second.finish(image_auroc=0.95)])
    assert (model.version, registered_version(URI)) == ("2", f"{NAME}/1")
    return second


def read_runs(tab: Tab, server: str) -> None:
    """From the model's page to the detectors of all categories, where the best comes first."""
    tab.open(f"{server}/#/models/{NAME}", 1500, 700)
    link = "[...document.querySelectorAll('a')].find(one => one.innerText.startsWith('Runs of all'))?.href"
    tab.wait(f"!!({link})")
    tab.open(tab.run(link), 1500, 700)  # a click opens it in another tab
    rows = "[...document.querySelectorAll('.ag-center-cols-container [role=row]')].map(one => one.innerText)"
    tab.wait(f"{rows}.length === 2")
    best, other = (row.split("\n") for row in tab.run(rows))
    assert "v2" in best
    assert "v1" in other


def move_champion(tab: Tab, server: str, version: int) -> None:
    """What a person does on a version's page: open the aliases, type one more, save."""
    tab.open(f"{server}/#/models/{NAME}/versions/{version}", 1280, 900)
    tab.click("document.querySelector('button[title$=\" aliases\"]')")
    tab.click(f"{_DIALOG}?.querySelector('[class*=select-selector]')")
    for letter in "champion":
        tab.press(letter)
    tab.press("Enter")
    tab.wait(f"{_DIALOG}?.innerText.includes('is also being used on version 1')")
    tab.click(f"[...{_DIALOG}.querySelectorAll('button')].find(one => one.innerText === 'Save aliases')")


@pytest.mark.server
@pytest.mark.slow
def test_a_champion_chosen_with_the_mouse_is_logged_in_time_and_loaded(
    run: PipelineRun, tmp_path: Path, chromium: str
) -> None:
    place, port = {"settings": run.settings(), "project": run.root}, free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "MLFLOW_PORT": str(port), "MLFLOW_WORKERS": "1"}
    environment.pop("PYTHONPATH", None)
    server = f"set -a; . mlflow/server.env; MLFLOW_PORT={port}; MLFLOW_WORKERS=1; set +a; exec mlflow server"
    watcher = [sys.executable, "-m", "flows.promote", "--watch", "--every", str(EVERY)]
    origin, seen = f"http://127.0.0.1:{port}", tmp_path / "watcher.log"
    before = ReConPatch.load(URI, device="cpu", threads=1).parts.bank.vectors

    def answers() -> bool:
        try:
            return httpx.get(f"{origin}/health").is_success
        except httpx.TransportError:
            return False

    with (
        running(tmp_path / "server.log", "bash", "-c", server, cwd=run.root, env=environment),
        running(seen, *watcher, cwd=run.root, env=environment),
        browser(chromium, tmp_path / "profile") as tab,
    ):
        wait_for("the server", answers)
        wait_for("the watcher", lambda: "watching" in seen.read_text())
        read_runs(tab, origin)
        move_champion(tab, origin, 2)
        wait_for("the move", lambda: registered_version(URI) == f"{NAME}/2")
        took = wait_for(
            "its event", lambda: len(read_log(NAME, **place)) == 2 and read_log(NAME, **place)[1].is_done
        )
        print(f"the move was in the log after {took:.1f} s, looking every {EVERY:.0f} s")
        tab.wait("/@\\s*champion/.test(document.body.innerText)")
        assert tab.failures() == []
    event = read_log(NAME, **place)[-1].event
    assert (event.kind, event.from_version, event.to_version, event.who) == ("ui", "1", "2", "unknown (UI)")
    after = ReConPatch.load(URI, device="cpu", threads=1).parts.bank.vectors
    wanted = ReConPatch.load(run.detector, device="cpu", threads=1).parts.bank.vectors
    assert (after == wanted).all()
    assert len(after) > len(before)
