"""Data Docs of `validate`: there after a failure too, and in MLflow once for each state of the data."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from flows.support.check_artifacts import describe
from reconpatch.integrations.check_report import ChecksFailedError
from reconpatch.settings import parse_settings
from tasks.registry.data_checks_run import Checks, log_checks
from tasks.running.stage_folders import Job
from tasks.stages.validate import run


@pytest.fixture
def job(tmp_path: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    random = np.random.default_rng(0)
    good = tmp_path / "data/tiny/nut/train/good"
    good.mkdir(parents=True)
    for number in range(11):
        Image.fromarray(random.integers(90, 140, (64, 64, 3)).astype(np.uint8)).save(good / f"{number}.png")
    settings = parse_settings({"pipeline": {"dataset": "tiny", "root": "data/tiny", "categories": ["nut"]}})
    return Job(settings, "nut", None, tmp_path, tmp_path / "outputs")


def test_findings_are_told_and_logged_once_whether_they_stop_the_category_or_not(
    job: Job, tmp_path: Path
) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert Checks.read(job) is None
    (tmp_path / "stage").mkdir()
    run(job, tmp_path / "stage")
    passed = Checks.read(job)
    assert passed is not None
    assert passed.page.is_file()
    assert "passed" in describe(job, passed, "run 1")
    place = log_checks(job, passed)
    assert log_checks(job, passed) == place

    image = job.images / "train/good/3.png"
    image.rename(image.with_name("odd|name.png"))
    image.with_name("odd|name.png").write_bytes(b"")
    with pytest.raises(ChecksFailedError, match="zero bytes"):
        run(job, tmp_path / "stage")
    failed = Checks.read(job)
    assert failed is not None
    (row,) = [line for line in describe(job, failed, place).splitlines() if line.startswith("| critical")]
    assert r"odd\|name.png | is empty (zero bytes)" in row
    log_checks(job, failed)

    experiment = client.get_experiment_by_name("reconpatch-data")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
    assert [one.data.tags["success"] for one in runs] == ["true", "false"]
    assert runs[0].info.run_id in place
    assert [one.data.metrics["critical"] for one in runs] == [0, 1]
    page = "data_docs/index.html"
    assert page in [item.path for item in client.list_artifacts(runs[1].info.run_id, "data_docs")]
    pages = (tmp_path / "mlartifacts").rglob("validations/**/*.html")
    assert any("odd|name.png" in path.read_text() for path in pages)
