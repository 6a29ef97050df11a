"""Experiments with the method: ablations and tuning. No part of the product."""
