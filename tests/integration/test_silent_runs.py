"""A run of which nothing is heard ends as crashed, and gives back its place in its deployment."""

from datetime import timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Completed, Pending, Running
from waiting import wait_for

from flows.support.heartbeats import NAME, watch_heartbeats


@flow
def nothing() -> None:
    """Never run; only said to."""


@pytest.mark.slow
@pytest.mark.server
def test_a_silent_run_ends_as_crashed_and_one_that_ended_stays_as_it_was(whole_server: str) -> None:
    with temporary_settings({PREFECT_API_URL: whole_server}):
        watch_heartbeats()
        watch_heartbeats(timedelta(seconds=10))
        deployment = nothing.to_deployment("line", concurrency_limit=3).apply()
        with get_client(sync_client=True) as client:
            (first,) = client.read_automations_by_name(NAME)
            silent, unborn, done = (client.create_flow_run_from_deployment(deployment) for _ in range(3))
            for run, *states in (
                (unborn, Pending()),
                (silent, Pending(), Running()),
                (done, Pending(), Running(), Completed()),
            ):
                for state in states:
                    client.set_flow_run_state(run.id, state)
            watch_heartbeats(timedelta(seconds=10))
            (again,) = client.read_automations_by_name(NAME)
            assert again.id == first.id  # one that was new would not know the runs
            for run in (silent, unborn):
                wait_for("the end", lambda run=run: client.read_flow_run(run.id).state.is_crashed())
                assert client.read_flow_run(run.id).state.message == "No heartbeat for 10 s."
            assert client.read_flow_run(done.id).state.is_completed()
            limit = client.read_global_concurrency_limit_by_name(f"deployment:{deployment}")
            assert limit.active_slots == 0
