"""How a run whose process is gone ends as crashed; triggers in prefect.yaml then run its deployment again.

Every run sends heartbeats, and an automation of the server ends the runs whose heartbeats stop, on whatever
machine. What a dead process of this machine has left is ended as soon as the deployments are served again.

python -m flows.support.heartbeats    # deploy the automation at the server that PREFECT_API_URL names
"""

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY
from prefect.states import Crashed

from tasks.running.living_process import is_gone

KILLED = "reconpatch.flow-run.killed"
NAME = "reconpatch: runs without a heartbeat"
_MISSED = 4  # heartbeats; one comes late when the machine is busy
_PAGE = 200
_BEGUN = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING]))


def note_process(flow: Any, flow_run: FlowRun, state: Any) -> None:  # noqa: ARG001 (named as Prefect calls them)
    """Keep with a run, as a worker does, which process runs it; a hook of flows that begin to run."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, infrastructure_pid=f"{socket.gethostname()}:{os.getpid()}")


def end_dead_runs() -> list[FlowRun]:
    """End as crashed what a process of this machine ran and left when it was killed; emit an event of each.

    A server that has just been started keeps Prefect's own event of the change from triggers for 15 minutes:
    it follows one that this server has not seen.

    Returns:
        The runs that were ended.
    """
    with get_client(sync_client=True) as client:
        begun = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=_BEGUN), limit=_PAGE)
        dead = [run for run in begun if _is_dead(run)]
        for run in dead:
            message = f"The process of the run ({run.infrastructure_pid}) was killed."
            client.set_flow_run_state(run.id, Crashed(message=message), force=True)
            flow = {"prefect.resource.id": f"prefect.flow.{run.flow_id}", "prefect.resource.role": "flow"}
            named = flow | {"prefect.resource.name": client.read_flow(run.flow_id).name}
            emit_event(KILLED, {"prefect.resource.id": f"prefect.flow-run.{run.id}"}, related=[named])
    return dead


def _is_dead(run: FlowRun) -> bool:
    """Whether the run's process was one of this machine and is gone; what other machines run is not known."""
    host, _, pid = (run.infrastructure_pid or "").rpartition(":")
    begun = run.start_time or datetime.now(UTC)
    return host == socket.gethostname() and pid.isdigit() and is_gone(int(pid), begun.timestamp())


def watch_heartbeats(within: timedelta | None = None) -> None:
    """Let the server end as crashed each run that was heard of once and then not for a while.

    Args:
        within: for how long; None: four heartbeats.
    """
    within = within or _MISSED * timedelta(seconds=PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value())
    # A run that was given to a process is expected to be heard of, too. Its end is one of its states.
    states = (f"prefect.flow-run.{one}" for one in ("heartbeat", "Pending", "Running"))
    automation = Automation(
        name=NAME,
        description="Written by flows.support. The machine, or the process, of such a run is gone.",
        trigger=EventTrigger(
            after=set(states),
            expect={"prefect.flow-run.*"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED, message=f"No heartbeat for {within.total_seconds():.0f} s."
            )
        ],
    )
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(NAME)
        # A new one would know nothing of the runs that were heard of before.
        if len(found) == 1 and found[0].enabled and found[0].trigger == automation.trigger:
            return
        for old in found:
            client.delete_automation(old.id)
    automation.create()


if __name__ == "__main__":
    watch_heartbeats()
