"""A flow that fails at a registry whose URL holds a password tells it nowhere."""

import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.logging.handlers import APILogWorker
from prefect.states import State

from flows.retrain import image_changes, retrain

PASSWORDS = ["s3cret-pw", "s3c'r\"et\n pw"]


def _logs_of(state: State[Any]) -> list[str]:
    APILogWorker.instance().drain()
    run = state.state_details.flow_run_id
    assert run is not None
    with get_client(sync_client=True) as client:
        found = client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), limit=200, sort=LogSort.TIMESTAMP_ASC
        )
        assert client.read_flow_run(run).state.message == state.message
    return [one.message for one in found]


def _parts(password: str) -> list[str]:
    """What of a password no output may hold: a log may write its odd characters otherwise."""
    return [password, "s3c", "pw@"]


@pytest.mark.slow
@pytest.mark.server
def test_a_registry_that_is_away(
    make_project: Any,
    mlflow_template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    project = make_project(dents=False)
    shutil.copy(mlflow_template, project.root / "mlflow.db")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(image_changes, "retry_delay_seconds", 0)
    for password in PASSWORDS:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ada:{password}@127.0.0.1:9")
        state = retrain(project=project.root, return_state=True)
        assert state.is_failed()
        assert "MLflow refused a look for the champion" in str(state.message)
        shown = capfd.readouterr()
        logs = _logs_of(state)
        assert any("MLflow refused" in message for message in logs), logs
        assert any("Traceback" in message for message in logs), "the cause is logged"
        for part in _parts(password):
            for told in (state.message, shown.out, shown.err, *logs):
                assert part not in str(told)
    store = f"sqlite:///{project.root / 'mlflow.db'}"
    for experiment in mlflow.MlflowClient(store).search_experiments():
        for run in mlflow.MlflowClient(store).search_runs([experiment.experiment_id]):
            assert "s3c" not in str(run.to_dictionary())


@pytest.mark.server
@pytest.mark.usefixtures("prefect_server")
def test_an_error_of_another_library(capfd: pytest.CaptureFixture[str]) -> None:
    @task
    def connect(url: str) -> None:
        try:
            raise ConnectionError(f"could not connect to {url}")
        except ConnectionError as error:
            raise LookupError(f"{url} is away") from error

    @flow
    def strange() -> None:
        connect("postgresql://ada:s3cret pw@127.0.0.1:9/mlflow?password=s3cret%20pw")

    state = strange(return_state=True)
    assert "postgresql://***@127.0.0.1:9/mlflow?password=*** is away" in str(state.message)
    shown, logs = capfd.readouterr(), _logs_of(state)
    assert any("ConnectionError: could not connect to postgresql://***@" in message for message in logs)
    for told in (state.message, shown.out, shown.err, *logs):
        assert "s3cret" not in str(told)
