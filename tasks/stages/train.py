"""Stage train: the modulation f, learnt on the patches of the images that fit the detector."""

from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from reconpatch.data.nominal_split import split_nominal
from reconpatch.fit import fit_modulation
from reconpatch.text.csv_files import write_rows
from reconpatch.training.training_loop import TrainingRecord
from tasks.running.read_outputs import HEAD, load_features, load_training_images
from tasks.running.stage_folders import Job
from tasks.running.stage_table import HISTORY


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``head/`` (empty for plain PatchCore) and ``history.csv``."""
    settings, images = job.detector_settings, load_training_images(job)
    features = load_features(job)
    split = split_nominal(features.paths, images.groups, features.image_digests, settings)
    trained = fit_modulation(features.subset(split.fit), settings)
    (folder / "head").mkdir()
    if trained is not None:
        trained.modulation.save(folder / "head" / HEAD)
    write_history(folder / HISTORY, () if trained is None else trained.history)
    return {}


def write_history(path: Path, history: Sequence[TrainingRecord]) -> None:
    """Write the losses of f's training, a line a record; only the header without any."""
    write_rows(path, [[field.name for field in fields(TrainingRecord)], *map(astuple, history)])
