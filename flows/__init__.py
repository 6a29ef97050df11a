"""Flows only chain tasks: no numerics, no file formats."""

from flows import environment

environment.apply()
