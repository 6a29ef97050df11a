"""The ingest flow on a small project: images join, the version is committed, the event says so."""

import subprocess

import numpy as np
import pytest
from PIL import Image

from flows import ingest as flow
from reconpatch.settings import load_settings
from tasks.registry.lineage_tags import data_hash

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("prefect_server")]


def test_images_join_the_version_is_committed_and_the_event_emitted(make_project, monkeypatch) -> None:
    project = make_project(dents=False)
    project.set("ingest.settle_seconds", 0.0)
    inbox = project.root / "inbox" / "plain"
    inbox.mkdir(parents=True)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (72, 72, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(inbox / f"{number}.png")
    (inbox / "cut.png").write_bytes(b"")
    events: list[dict] = []
    monkeypatch.setattr(flow, "emit_event", lambda **event: events.append(event))

    state = flow.ingest_all(project=project.root, return_state=True)
    assert state.message == "plain: 2 joined, 1 put aside (1 unreadable), 0 left in the inbox"
    (batch,) = state.result()
    assert (batch.count, batch.quarantined, batch.reasons) == (2, 1, {"unreadable": 1})
    (event,) = events
    settings = load_settings(project.root / "params.yaml")
    digest = data_hash(project.root / settings.pipeline.root, project.root)
    assert event["event"] == "reconpatch.ingest.completed"
    expected = {"dataset": "tiny", "category": "plain", "count": 2, "data_hash": digest}
    assert expected.items() <= event["payload"].items()
    assert event["resource"] == {"prefect.resource.id": "reconpatch.dataset.tiny.plain"}
    command = ["git", "show", "--name-only", "--format=%an", "HEAD"]
    shown = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True).stdout
    assert shown.split("\n") == ["reconpatch flow", "", "data/tiny.dvc", ""]
    assert "up to date" in project.dvc("status", "data/tiny.dvc")
    project.set("ingest.settle_seconds", 3600.0)  # what comes now counts as being written
    Image.new("RGB", (72, 72)).save(inbox / "late.png")
    state = flow.ingest_all(project=project.root, return_state=True)
    assert (state.message, state.result()) == ("plain: nothing to take, 1 left in the inbox", [])
    assert len(events) == 1
