"""What is done with finished detectors: ingest, batch, monitor, housekeeping, tuning, ablations."""
