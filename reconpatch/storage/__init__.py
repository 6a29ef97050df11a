"""Detector folders and other files that are complete or absent."""
