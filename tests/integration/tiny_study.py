"""The smallest project that a study runs on: images, an MLflow store, and the real sources to be hashed."""

import shutil
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from PIL import Image

from tasks.running.stage_folders import PROJECT

TINY = [
    "features.image_size=64", "modulation.dim=16", "modulation.projection_dim=8", "modulation.steps=5",
    "modulation.batch_size=64", "threads=1", "device=cpu", "pipeline.dataset=tiny",
    "pipeline.root=data/tiny", "pipeline.categories=[nut]",
]  # fmt: skip


def write_project(root: Path, mlflow_template: Path) -> Path:
    """A category `nut` of six nominal training images, three good test images and three with a dent."""
    shutil.copy(mlflow_template, root / "mlflow.db")
    for name in ("reconpatch", "tasks", "studies"):
        (root / name).symlink_to(PROJECT / name)
    rng = np.random.default_rng(0)
    for where, count in (("train/good", 6), ("test/good", 3), ("test/dent", 3)):
        folder = root / "data" / "tiny" / "nut" / where
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(90, 140, (64, 64, 3)).astype(np.uint8)
            if where == "test/dent":
                pixels[20:40, 20:40] = 255
            Image.fromarray(pixels).save(folder / f"{number}.png")
    return root


def client(root: Path) -> MlflowClient:
    """Of the project's own store."""
    return MlflowClient(tracking_uri=f"sqlite:///{root / 'mlflow.db'}")


def runs(root: Path, experiment: str) -> tuple[list, list]:
    """(parents, nested runs) of an experiment."""
    found = client(root).get_experiment_by_name(experiment)
    every = client(root).search_runs([found.experiment_id], max_results=1000)
    nested = [run for run in every if "mlflow.parentRunId" in run.data.tags]
    return [run for run in every if run not in nested], nested
