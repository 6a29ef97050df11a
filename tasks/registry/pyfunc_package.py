"""A detector folder as an MLflow model from code, with the library inside; nothing is pickled."""

import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema
from packaging.requirements import Requirement

import reconpatch
from reconpatch.integrations.mlflow_uri import ARTIFACT
from reconpatch.storage.detector_config import WEIGHTS, read_config
from reconpatch.storage.detector_folder import member_folders
from reconpatch.storage.detector_settings import add_weights
from tasks.running.stage_folders import PROJECT

SCRIPT = PROJECT / "mlflow" / "pyfunc_model.py"
# Only keys that are named here can be overridden by load_model(model_config=...).
MODEL_CONFIG: dict[str, Any] = {"allowed_root": "", "device": "auto", "threads": 0}

SIGNATURE = ModelSignature(
    inputs=Schema(
        [ColSpec(DataType.binary, "image", required=False), ColSpec(DataType.string, "path", required=False)]
    ),
    outputs=Schema(
        [
            ColSpec(DataType.string, "path", required=False),
            ColSpec(DataType.double, "score"),
            ColSpec(DataType.boolean, "is_anomalous", required=False),
        ]
    ),
)


def save_pyfunc(detector: Path, target: Path, model: Model) -> None:
    """Write an MLflow model folder.

    Args:
        detector: folder of a fitted detector; it is copied, with weights that came from a local file.
        target: where to write; must not exist or be empty.
        model: carries the ids of run and model into the folder.
    """
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as scratch:
        whole = shutil.copytree(detector, Path(scratch) / "detector")
        for folder in member_folders(whole):
            weights = read_config(folder)["settings"]["features"].get("weights")
            if weights is not None and not (folder / WEIGHTS).exists():
                add_weights(folder, PROJECT / weights)
        mlflow.pyfunc.save_model(
            path=target,
            mlflow_model=model,
            python_model=str(SCRIPT),
            artifacts={ARTIFACT: str(whole)},
            code_paths=[str(Path(reconpatch.__file__).parent)],
            model_config=MODEL_CONFIG,
            signature=SIGNATURE,
            input_example=pd.DataFrame({"path": ["image.png"]}),
            pip_requirements=requirements(detector),
        )


def requirements(detector: Path) -> list[str]:
    """What the library inside and this detector's weights need, pinned to the versions at work here."""
    wanted = [Requirement(text) for text in metadata.requires("reconpatch") or []]
    base = [item for item in wanted if item.marker is None or item.marker.evaluate({"extra": ""})]
    sources = {str(read_config(folder)["backbone"]["weights_source"]) for folder in member_folders(detector)}
    packages = {source.removeprefix("package ") for source in sources if source.startswith("package ")}
    more = [Requirement(name) for name in sorted(packages - {item.name for item in base})]
    return [_pinned(item) for item in [*base, *more]] + [f"mlflow=={mlflow.__version__}"]


def _pinned(requirement: Requirement) -> str:
    try:
        return f"{requirement.name}=={metadata.version(requirement.name).partition('+')[0]}"
    except metadata.PackageNotFoundError:  # faiss-gpu stands in for faiss-cpu
        return str(requirement)
