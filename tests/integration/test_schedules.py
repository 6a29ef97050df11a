"""A schedule really yields scheduled runs: with a wrong sqlalchemy it silently yields none."""

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, temporary_settings
from waiting import wait_for


@flow
def nothing() -> None:
    """Never run; only scheduled."""


@pytest.mark.slow
@pytest.mark.server
def test_a_cron_deployment_gets_scheduled_runs(whole_server: str) -> None:
    with temporary_settings({PREFECT_API_URL: whole_server}):
        schedule = Cron("0 2 * * *", timezone="Europe/Berlin")
        deployment = nothing.to_deployment("nightly", schedule=schedule).apply()
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        with get_client(sync_client=True) as client:
            wait_for("a scheduled run", lambda: client.read_flow_runs(deployment_filter=wanted))
            runs = client.read_flow_runs(deployment_filter=wanted)
    assert all(run.state.is_scheduled() for run in runs)
