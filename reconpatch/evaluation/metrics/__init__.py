"""Metrics of anomaly detection."""
