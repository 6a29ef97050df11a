"""Strangers' image files, decoded in processes that a deadline ends."""
