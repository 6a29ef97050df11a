"""Whether what a detector sees now is still what it was calibrated on."""
