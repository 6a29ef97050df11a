"""The pipeline's stages, one file each; `stages` is their table, `stage` runs them."""

from reconpatch.integrations.telemetry import switch_off

switch_off()
