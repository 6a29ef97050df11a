"""Flows only chain tasks: no numerics, no file formats."""

from flows import environment, failures

environment.apply()
failures.tell_once()
