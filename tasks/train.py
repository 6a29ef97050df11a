"""Stage train: the modulation f, learnt on the patches of the images that fit the detector."""

import csv
from dataclasses import asdict, fields
from pathlib import Path

from reconpatch.fitting import fit_modulation, split_nominal
from reconpatch.modulation.training import TrainedModulation, TrainingRecord
from tasks.inputs import HEAD, load_features, load_training_images
from tasks.job import Job
from tasks.stage import main


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``head/`` (empty for plain PatchCore) and ``history.csv``."""
    settings, images = job.detector_settings, load_training_images(job)
    features = load_features(job)
    split = split_nominal(images.groups, features.image_digests, settings)
    trained = fit_modulation(features.subset(split.fit), settings)
    (folder / "head").mkdir()
    if trained is not None:
        trained.modulation.save(folder / "head" / HEAD)
    _write_history(folder / "history.csv", trained)
    return {}


def _write_history(path: Path, trained: TrainedModulation | None) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(TrainingRecord)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in (trained.history if trained is not None else ()))


if __name__ == "__main__":
    main("train")
