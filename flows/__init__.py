"""Flows only chain tasks: no numerics, no file formats."""

from flows.support import environment, flow_failures
from reconpatch.integrations.optional_packages import require_environment

require_environment("prefect")
environment.apply()
flow_failures.tell_once()

from flows.support import log_redaction  # noqa: E402 (Prefect reads the environment when it is imported)

log_redaction.apply()
