"""Greedy k-center selection of the memory bank; README.md explains its one invariant."""
