"""The pipeline's stages, one file each; `stages` is their table, `stage` runs them."""

from reconpatch.integrations.optional_packages import require_environment
from reconpatch.integrations.telemetry import switch_off

require_environment("pydantic")  # mlflow/ of the project would pass for the package of that name
switch_off()
