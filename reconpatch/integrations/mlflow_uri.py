"""Detectors from an MLflow registry: ``models:/reconpatch-demo-brick@champion`` to a local folder."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from reconpatch.errors import ModelError
from reconpatch.integrations.extras import import_extra

# The name of the detector folder among a registered model's artifacts; the pipeline's packaging gives it.
ARTIFACT = "detector"
_DEFAULT_STORE = "mlflow.db"


def download_detector(uri: str) -> Path:
    """Copy a registered detector into a temporary folder, removed when the process ends.

    Args:
        uri: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``models:/m-ID``.

    Returns:
        The detector folder.

    Raises:
        ModelError: no registry is named, or it has no such model, version or alias, or the model was
            not registered by this project.
        ReConPatchError: mlflow is not installed.
    """
    mlflow: Any = import_extra("mlflow", f"loading {uri}")
    _require_store(mlflow, uri)
    target = Path(tempfile.mkdtemp(prefix="reconpatch-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    try:
        info = mlflow.models.get_model_info(uri)
        place = info.flavors.get("python_function", {}).get("artifacts", {}).get(ARTIFACT, {}).get("path")
        if place is None:
            raise ModelError(f"{uri}: holds no detector; it was not registered by reconpatch")
        mlflow.artifacts.download_artifacts(artifact_uri=f"{uri.rstrip('/')}/{place}", dst_path=str(target))
    except (mlflow.MlflowException, OSError) as error:
        reason = " ".join(str(getattr(error, "message", error)).split())
        raise ModelError(
            f"{uri}: cannot be had from the registry {mlflow.get_tracking_uri()} ({reason}); `make ui` lists "
            "the models, versions and aliases there; MLFLOW_TRACKING_URI names another registry"
        ) from None
    return target / str(place)


def _require_store(mlflow: Any, uri: str) -> None:
    # Left alone MLflow would make an empty database in whatever folder the user stands in.
    named = os.environ.get("MLFLOW_TRACKING_URI") or mlflow.is_tracking_uri_set()
    if not named and not Path(_DEFAULT_STORE).is_file():
        raise ModelError(
            f"{uri}: no registry is named and there is no {_DEFAULT_STORE} in this folder; set "
            "MLFLOW_TRACKING_URI, for example to sqlite:////path/to/the/project/mlflow.db"
        )
