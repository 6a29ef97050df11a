"""A finished pipeline run as registration finds it on disk, without having run the pipeline."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.data.manifest import build_manifest, write_manifest
from reconpatch.settings import DataSettings, Settings, load_settings
from tasks.registry.gate_policy import POLICY
from tasks.running.run_stage import Finished
from tasks.running.stage_folders import PROJECT, Job

METRICS = {
    "image_auroc": 0.9,
    "pixel_auroc": 0.8,
    "aupro": 0.7,
    "image_f1_max": 0.6,
    "threshold": 1.5,
    "n_train": 9,
}

PARAMS = {
    "features.image_size": 64,
    "modulation.dim": 16,
    "modulation.projection_dim": 8,
    "modulation.steps": 3,
    "modulation.batch_size": 64,
    "coreset.ratio": 0.2,
    "threads": 1,
    "device": "cpu",
}


def write_images(root: Path) -> Path:
    """A category of small textures; returns its folder."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 2)):
        (root / split / "good").mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(90, 140, (64, 64, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / "good" / f"{number}.png")
    return root


def fit_detector(images: Path, folder: Path) -> Path:
    """A real detector, the smallest that does everything."""
    ReConPatch(params=PARAMS).fit(images).save(folder)
    return folder


@dataclass(frozen=True)
class PipelineRun:
    """A project folder with finished stages in it.

    Attributes:
        root: of the project.
        detector: a fitted detector that stands for all.
        images: a category's images.
    """

    root: Path
    detector: Path
    images: Path

    @property
    def client(self) -> MlflowClient:
        """Of the project's own store."""
        uri = f"sqlite:///{self.root / 'mlflow.db'}"
        return MlflowClient(tracking_uri=uri, registry_uri=uri)

    def settings(self, *overrides: str) -> Settings:
        """Parameters of the run."""
        return load_settings(None, ["pipeline.dataset=tiny", "pipeline.root=data/tiny", *overrides])

    def finish(
        self,
        category: str = "nut",
        backbone: str = "tf_efficientnet_lite0",
        outputs: str = "outputs",
        **metrics: Any,
    ) -> Finished:
        """Write the outputs of one detector's stages and return its stage ``evaluate``."""
        job = Job(self.settings(), category, backbone, self.root, self.root / outputs)
        shutil.copytree(self.detector, job.folder("calibrate") / "model", dirs_exist_ok=True)
        config = job.folder("calibrate") / "model" / "config.json"
        values = json.loads(config.read_text())
        values["backbone"]["name"] = backbone
        config.write_text(json.dumps(values))
        job.folder("validate").mkdir(parents=True, exist_ok=True)
        (self.root / "mlflow").mkdir(exist_ok=True)
        if not (self.root / POLICY).exists():
            shutil.copy(PROJECT / POLICY, self.root / POLICY)
        table = build_manifest(self.images, DataSettings())
        write_manifest(table, job.folder("validate") / "manifest.parquet")
        folder = job.folder("evaluate")
        (folder / "plots").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(folder / "plots" / "heatmap.png")
        tested = table.loc[table["split"] == "test", ["path", "label", "group"]]
        tested.assign(score=1.0).to_csv(folder / "scores.csv", index=False)
        (folder / "report.html").write_text("<p>as an evaluation writes it</p>")
        (folder / "metrics.json").write_text(json.dumps(METRICS | metrics))
        (folder / "timings.json").write_text(json.dumps({"seconds": 2.0, "seconds_per_image": 0.1}))
        return Finished("evaluate", job, folder, ran=True)
