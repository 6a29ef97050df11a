"""Serve every deployment of prefect.yaml from this machine, in one process.

python -m flows.serve
"""

import asyncio
import importlib
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL

from flows.support.heartbeats import end_dead_runs, watch_heartbeats
from tasks.running.stage_folders import PROJECT

FILE = "prefect.yaml"
_START_SECONDS = 300


def read_deployments(file: Path = PROJECT / FILE) -> list[RunnerDeployment]:
    """The deployments of prefect.yaml as `prefect.serve` takes them; one file for both ways to deploy."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [_deployment(values) for values in content["deployments"]]


def _deployment(values: dict[str, Any]) -> RunnerDeployment:
    path, _, name = values["entrypoint"].partition(":")
    flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
    limit = values["concurrency_limit"]
    deployment: RunnerDeployment = flow.to_deployment(
        values["name"],
        description=values["description"],
        parameters=values["parameters"],
        tags=values["tags"],
        schedules=[
            Cron(one["cron"], timezone=one["timezone"], active=one.get("active", True))
            for one in values.get("schedules", [])
        ],
        triggers=[
            DeploymentEventTrigger(**{key: value for key, value in one.items() if key != "type"})
            for one in values.get("triggers", [])
        ],
        concurrency_limit=ConcurrencyLimitConfig(
            limit=limit["limit"], collision_strategy=ConcurrencyLimitStrategy(limit["collision_strategy"])
        ),
    )
    return deployment


def main() -> None:
    """Wait for the server that PREFECT_API_URL names, then serve until Ctrl-C."""
    url = PREFECT_API_URL.value()
    if not url:
        sys.exit("PREFECT_API_URL: is not set; `make serve-flows` starts a server and sets it")
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                break
        except httpx.TransportError:
            time.sleep(0.5)
    else:
        sys.exit(f"PREFECT_API_URL {url}: no server answers there")
    runner = Runner(pause_on_shutdown=False)
    served = [runner.add_deployment(one) for one in read_deployments()]
    watch_heartbeats()
    # After the deployments are there: their triggers hear of it, and run again what was killed.
    for run in end_dead_runs():
        print(f"{run.name}: its process ({run.infrastructure_pid}) was killed; ended as crashed")
    print(f"serving {len(served)} deployments; Ctrl-C ends it")
    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(runner.start())


if __name__ == "__main__":
    main()
