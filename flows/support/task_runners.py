"""What runs the tasks of a flow: threads of its process, or the processes of a Dask or Ray cluster."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from reconpatch.integrations.optional_packages import import_extra
from reconpatch.settings import Settings

CLUSTER = "RECONPATCH_CLUSTER"


@contextmanager
def task_runner(settings: Settings) -> Iterator[TaskRunner[Any]]:
    """The runner that ``pipeline.runner`` names, for the block.

    A cluster that an address names is left running; without one, ``pipeline.concurrency`` processes of this
    machine are a cluster for as long as the block lasts. Its processes use the flow's Prefect server.

    Raises:
        ReConPatchError: the runner's package is not installed.
    """
    pipeline = settings.pipeline
    if pipeline.runner == "threads":
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=pipeline.concurrency)
        with threads:
            yield threads
        return
    address = os.environ.get(CLUSTER) or pipeline.cluster
    runner = (_dask if pipeline.runner == "dask" else _ray)(address, pipeline.concurrency)
    with get_client(sync_client=True) as client:
        url = str(client.api_url)
    with temporary_settings({PREFECT_API_URL: url}), runner:
        yield runner


def _dask(address: str | None, processes: int) -> TaskRunner[Any]:
    module = import_extra("prefect_dask", "pipeline.runner: dask", "dask")
    local = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
    runner: TaskRunner[Any] = module.DaskTaskRunner(
        address=address, cluster_kwargs=None if address else local
    )
    return runner


def _ray(address: str | None, processes: int) -> TaskRunner[Any]:
    module = import_extra("prefect_ray", "pipeline.runner: ray", "ray")
    local = {"num_cpus": processes, "include_dashboard": False}
    runner: TaskRunner[Any] = module.RayTaskRunner(address=address, init_kwargs=None if address else local)
    return runner
