"""Detectors as ONNX and OpenVINO files that are proven equal; needs the extra ``export``."""
