"""Detectors as ONNX and OpenVINO graphs that are proven to say the same; needs the extra ``export``."""
