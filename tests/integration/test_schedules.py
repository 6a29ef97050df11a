"""A schedule really yields scheduled runs: with a wrong sqlalchemy it silently yields none."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings

_LIMIT_SECONDS = 300  # a server takes 10 s to start, and 90 s were seen on a busy machine


@flow
def nothing() -> None:
    """Never run; only scheduled."""


@pytest.fixture
def whole_server(tmp_path: Path) -> Iterator[str]:
    """`prefect server start`: the server that a flow starts for itself has no scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env={**os.environ, "PREFECT_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _wait_until_healthy(url)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.slow
@pytest.mark.server
def test_a_cron_deployment_gets_scheduled_runs(whole_server: str) -> None:
    runs: list[object] = []
    with temporary_settings({PREFECT_API_URL: whole_server}):
        schedule = Cron("0 2 * * *", timezone="Europe/Berlin")
        deployment = nothing.to_deployment("nightly", schedule=schedule).apply()
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        end = time.monotonic() + _LIMIT_SECONDS
        with get_client(sync_client=True) as client:
            while not runs and time.monotonic() < end:
                runs = client.read_flow_runs(deployment_filter=wanted)
                time.sleep(0.5)
    assert runs
    assert all(run.state.is_scheduled() for run in runs)


def _wait_until_healthy(url: str) -> None:
    end = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"no Prefect server within {_LIMIT_SECONDS} s")
