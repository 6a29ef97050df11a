"""The whole life of a line that never shows a labelled defect: every step of README's walk, in its order."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from flows.ingest import ingest_all
from flows.monitor import monitor
from flows.promote import promote
from flows.retrain import retrain
from flows.train import train
from reconpatch import ReConPatch
from reconpatch.integrations.mlflow_uri import download_detector
from reconpatch.integrations.project_init import initialise
from reconpatch.line.monitoring.prediction_recorder import logged
from tasks.registry.gate_policy import POLICY
from tasks.registry.gate_rules import PASSED, UNDECIDED, GateReport

NAME = "reconpatch-line3-line3"


def _photograph(folder: Path, count: int, seed: int, brightness: float = 90) -> list[Path]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.normal(brightness + random.normal(0, 4), 12, (72, 72, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{seed}-{number:02}.png")
    return sorted(folder.iterdir())


def _champion(client: MlflowClient) -> str:
    return str(client.get_registered_model(NAME).aliases["champion"])


@pytest.mark.slow
@pytest.mark.server
def test_a_line_of_good_images_alone_is_trained_retrained_promoted_rolled_back_and_watched(
    make_project, mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(dents=False)
    root = project.root
    shutil.copy(mlflow_template, root / "mlflow.db")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    project.set("ingest.settle_seconds", 0.0)
    project.set("calibrate.holdout", 0.5)
    policy = root / POLICY  # how fast this machine is at one moment and the next is not the test's business
    policy.write_text(policy.read_text().replace("latency_ratio: 1.5", "latency_ratio: 1000"))
    _photograph(tmp_path / "line3", 40, seed=0)

    initialise(tmp_path / "line3", root)
    (row,) = train(project=root)
    assert (row["category"], row["image_auroc"]) == ("line3", "not available")
    assert float(row["synthetic_detection_rate"]) >= 0
    assert _champion(client) == "1"
    tags = client.get_model_version(NAME, "1").tags
    assert float(tags["seconds_per_image"]) > 0

    _photograph(root / "inbox/line3", 20, seed=1)
    (batch,) = ingest_all(project=root)
    assert batch.count > 0
    assert batch.count + batch.quarantined == 20
    assert (batch.left, sum(batch.reasons.values())) == (0, batch.quarantined)

    (outcome,) = retrain(project=root)
    assert (outcome.decision, outcome.version, outcome.new) == ("awaiting approval", "2", batch.count)
    report = GateReport.from_tags(client.get_model_version(NAME, "2").tags)
    assert report is not None
    assert (report.outcome, report.broken()) == (UNDECIDED, "")
    (timed,) = (one for one in report.results if "seconds an image" in one.rule)
    assert (timed.verdict, timed.finding.count(" s")) == (PASSED, 2)

    assert promote(NAME, "2", "knows the new lamp", root).version == "2"
    assert _champion(client) == "2"
    assert promote(NAME, None, "misses scratches", root).version == "1"
    assert _champion(client) == "1"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    detector = ReConPatch.load(download_detector(f"models:/{NAME}@champion"), threads=1, device="cpu")
    for day, brightness in ((1, 90), (2, 150)):
        images = _photograph(tmp_path / f"day{day}", 30, day + 1, brightness)
        seen = logged(detector.stream(images), root / "predictions", "line3", f"{NAME}/1", None)
        assert len(list(seen)) == 30
        noon = datetime.now(UTC) + timedelta(days=day)
        monkeypatch.setattr("flows.monitor.datetime", _Clock(noon))
        (checked,) = monitor(project=root)
        assert checked.check is not None
        assert checked.check.alarm is (day == 2)
    assert client.get_model_version(NAME, "1").tags["drift_alarm"].endswith(checked.note)
    assert len(list((root / "drift/line3/line3").glob("alarm-*.json"))) == 1


class _Clock:
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self, _zone: object) -> datetime:
        return self._now
