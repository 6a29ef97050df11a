"""Patch features of a set of images, and the cache that keeps them."""
