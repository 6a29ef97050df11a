"""Where a detector's folder lies: a path as it is, or a version in an MLflow registry, downloaded."""

from pathlib import Path


def local_folder(source: str | Path) -> Path:
    """The folder of a detector.

    Args:
        source: a folder, or an MLflow URI such as ``models:/reconpatch-demo-brick@champion``.

    Raises:
        ModelError: the registry has no such version, or its files do not come whole.
    """
    if not str(source).startswith("models:/"):
        return Path(source)
    from reconpatch.integrations.mlflow_uri import download_detector

    return download_detector(str(source))
