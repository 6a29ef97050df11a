"""The MLflow UI as a person uses it: the best run is seen, the champion chosen with mouse and keyboard."""

import os
import re
import shutil
import sys
from pathlib import Path

import httpx
import pytest
from finished_runs import PARAMS, PipelineRun, fit_detector, write_images
from playwright.sync_api import Page, expect
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


def read_runs(page: Page, server: str) -> None:
    """From the model's page to the detectors of all categories, where the best comes first."""
    page.set_viewport_size({"width": 1500, "height": 700})
    page.goto(f"{server}/#/models/{NAME}")
    link = page.get_by_role("link", name=re.compile("^Runs of all"))
    page.goto(link.evaluate("one => one.href"))  # a click opens it in another tab
    rows = page.locator(".ag-center-cols-container [role=row]")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("v2")
    expect(rows.nth(1)).to_contain_text("v1")


def move_champion(page: Page, server: str, version: int) -> None:
    """What a person does on a version's page: open the aliases, type one more, save."""
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(f"{server}/#/models/{NAME}/versions/{version}")
    page.locator('button[title$=" aliases"]').click()
    dialog = page.get_by_role("dialog")
    dialog.locator("[class*=select-selector]").click()
    page.keyboard.type("champion")
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text("is also being used on version 1")
    dialog.get_by_role("button", name="Save aliases").click()


@pytest.mark.server
@pytest.mark.slow
def test_a_champion_chosen_with_the_mouse_is_logged_in_time_and_loaded(
    run: PipelineRun, tmp_path: Path, page: Page, page_faults: list[str]
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
    ):
        wait_for("the server", answers)
        wait_for("the watcher", lambda: "watching" in seen.read_text())
        read_runs(page, origin)
        move_champion(page, origin, 2)
        wait_for("the move", lambda: registered_version(URI) == f"{NAME}/2")
        took = wait_for(
            "its event", lambda: len(read_log(NAME, **place)) == 2 and read_log(NAME, **place)[1].is_done
        )
        print(f"the move was in the log after {took:.1f} s, looking every {EVERY:.0f} s")
        expect(page.locator("body")).to_contain_text(re.compile(r"@\s*champion"))
    assert page_faults == []
    event = read_log(NAME, **place)[-1].event
    assert (event.kind, event.from_version, event.to_version, event.who) == ("ui", "1", "2", "unknown (UI)")
    after = ReConPatch.load(URI, device="cpu", threads=1).parts.bank.vectors
    wanted = ReConPatch.load(run.detector, device="cpu", threads=1).parts.bank.vectors
    assert (after == wanted).all()
    assert len(after) > len(before)
