"""Environment of every flow, set before Prefect and MLflow are imported and read it."""

import logging
import os
from pathlib import Path

from reconpatch.integrations.telemetry import SWITCHES

_PROJECT = Path(__file__).resolve().parents[2]

# What these log (progress, stages that are up to date) is shown and kept with the task run.
LOGGERS = ("reconpatch", "tasks")

DEFAULTS = {
    **SWITCHES,
    # Artifacts are copied on this machine: a bar a file is noise in a nightly log.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # State stays inside the project, wherever a flow is started from.
    "PREFECT_HOME": str(_PROJECT / ".prefect"),
    # The server that a flow starts for itself needs 10 to 20 s on a busy machine; 20 s is the default limit.
    # At low priority on a full machine two minutes once were too few.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # The Makefile exports the next two as well, for the server and the workers that it starts.
    # Leases in memory die with the server, and a run that goes on without its deployment's is ended.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # How soon a dead run is known (flows/support/heartbeats.py); 30 is Prefect's minimum, 180 its default.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(LOGGERS),
    # The same loggers also speak outside a flow, in `python -m tasks.registry.register` for one.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
}


def apply() -> None:
    """Set what the user has not set."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
