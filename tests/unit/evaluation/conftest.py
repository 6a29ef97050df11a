"""A category of tiny pictures and a detector that any machine can run in a moment."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch.calibration.calibration import calibrate_scores
from reconpatch.data.groups import hold_out_groups
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest
from reconpatch.data.training_images import TrainingSet
from reconpatch.model.preprocess import prepare_image
from reconpatch.settings import Settings

SIDE = 48


@dataclass
class FakePrediction:
    path: str | None
    score: float
    is_anomalous: bool | None
    anomaly_map: np.ndarray


@dataclass
class BrightnessDetector:
    """Anomalous is what differs from grey 120; ``calibration`` is set by the fixture."""

    settings: Settings
    calibration: object = None
    training_set: TrainingSet = field(default_factory=lambda: TrainingSet((), ()))
    region: object = None
    asked: list = field(default_factory=list)

    def stream(self, images):
        for image in images:
            self.asked.append(image)
            pixels = image if isinstance(image, np.ndarray) else read_image(image)
            grey = prepare_image(pixels, self.settings.features).mean(axis=2)
            anomaly_map = np.abs(grey - 120).astype(np.float32)
            score = float(anomaly_map.max())
            verdict = None if self.calibration is None else score > self.calibration.threshold.value
            path = None if isinstance(image, np.ndarray) else str(image)
            yield FakePrediction(path, score, verdict, anomaly_map)


def write_picture(path: Path, rng: np.random.Generator, change: float = 0.0) -> np.ndarray:
    """A grey picture, 40 high and 56 wide, with a square that is ``change`` brighter; returns the square."""
    pixels = rng.normal(120, 4, (40, 56))
    row, column = rng.integers(4, 25, 2)
    square = np.zeros(pixels.shape, bool)
    square[row : row + 10, column : column + 12] = change != 0
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels + change * square, 0, 255).astype(np.uint8)).save(path)
    return square


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate(
        {"features": {"image_size": SIDE}, "calibrate": {"holdout": 0.5}, "evaluate": {"pictures": 9}}
    )


@pytest.fixture
def category(tmp_path) -> Path:
    """12 good training images; 8 good, 6 dented and 6 faintly stained test images, one stain unmarked."""
    root, rng = tmp_path / "plate", np.random.default_rng(0)
    for number in range(12):
        write_picture(root / f"train/good/{number:02}.png", rng)
    for number in range(8):
        write_picture(root / f"test/good/{number:02}.png", rng)
    for kind, change in (("dent", 60), ("stain", 12)):
        for number in range(6):
            mask = write_picture(root / f"test/{kind}/{number:02}.png", rng, change)
            if (kind, number) == ("stain", 5):
                mask[:] = False
            target = root / f"ground_truth/{kind}/{number:02}_mask.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(target)
    return root


@pytest.fixture
def manifest(category, settings):
    return build_manifest(category, settings.data)


@pytest.fixture
def detector(manifest, settings, category) -> BrightnessDetector:
    """Calibrated on the held-out training images."""
    train = manifest[manifest["split"] == "train"]
    held = hold_out_groups(train["group"].tolist(), settings.calibrate.holdout, settings.seed)
    made = BrightnessDetector(settings)
    seen = list(made.stream([category / path for path in train.loc[held, "path"]]))
    made.calibration = calibrate_scores(
        np.array([p.score for p in seen]),
        np.concatenate([p.anomaly_map.ravel() for p in seen]),
        np.array([p.anomaly_map.max() for p in seen]),
    )
    made.training_set = TrainingSet(tuple(train.loc[~held, "sha256"]), tuple(train.loc[held, "sha256"]))
    made.asked.clear()
    return made
