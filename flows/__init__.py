"""Flows only chain tasks: no numerics, no file formats."""

from flows import environment, failures
from reconpatch.integrations.extras import require_environment

require_environment("prefect")
environment.apply()
failures.tell_once()

from flows import redaction  # noqa: E402 (Prefect reads the environment when it is imported)

redaction.apply()
