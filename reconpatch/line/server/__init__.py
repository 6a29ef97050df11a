"""Detectors behind HTTP, for the person at the line and for machines; needs the extra ``serve``."""
