"""A finished evaluation as registration sees it: which detector, which figures, and one digest of both."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import sha256_file, sha256_json
from reconpatch.storage.detector_config import CONFIG, UNIFIED
from tasks.registry.lineage_tags import data_record
from tasks.running.run_stage import TIMINGS, Finished
from tasks.running.stage_record import read_record
from tasks.running.stage_table import HISTORY, NOMINAL_CHECK, STAGES

METRICS = "metrics.json"
UPDATED_FROM = "updated_from.json"  # in the outputs folder of an update: the version that it started from


@dataclass(frozen=True)
class FinishedEvaluation:
    """One detector with its evaluation, complete on disk.

    Attributes:
        dataset: name of the data set.
        category: its category; ``all`` of a unified model.
        backbone: timm model name.
        settings: parameters of this detector.
        parameters: parameters of the run, as a params file states them.
        model: the detector folder.
        folder: the evaluation's outputs.
        checks: the data checks' outputs, manifest and report.
        data_record: the .dvc file of the images; None where they are under no DVC.
        timings: how long it took, beside the record.
        record_digest: digest of the evaluation's recorded inputs; None when it has no record.
        updated_from: number of the registered version that learned the new images; None of a full fit.
    """

    dataset: str
    category: str
    backbone: str
    settings: Settings
    parameters: Settings
    model: Path
    folder: Path
    checks: Path
    data_record: Path | None
    timings: Path
    record_digest: str | None
    updated_from: str | None

    @classmethod
    def of(cls, finished: Finished) -> "FinishedEvaluation":
        """From a finished stage of `EVALUATIONS`."""
        job, record = finished.job, read_record(finished.folder)
        stage = STAGES[finished.stage]
        return cls(
            dataset=job.settings.pipeline.dataset,
            category=job.category,
            backbone=job.backbone or "+".join(job.settings.pipeline.backbones),
            settings=job.detector_settings,
            parameters=job.settings,
            model=(finished.folder if stage.evaluates_itself else job.folder("calibrate")) / "model",
            folder=finished.evaluation,
            checks=finished.folder / "data" if stage.unifies else job.folder("validate"),
            data_record=data_record(job.project / job.settings.pipeline.root, job.project),
            timings=finished.folder / TIMINGS,
            record_digest=None if record is None else str(record["digest"]),
            updated_from=_read(base)["version"] if (base := job.outputs / UPDATED_FROM).is_file() else None,
        )

    @property
    def registered_name(self) -> str:
        """Name of the registered model, one a category."""
        return registered_name(self.dataset, self.category)

    @property
    def output_digest(self) -> str:
        """One hash of the detector (its config names every file's digest) and of its figures."""
        files = {"detector": self.model / CONFIG, "metrics": self.folder / METRICS}
        return sha256_json({name: sha256_file(path) for name, path in files.items()})

    @property
    def nominal_check(self) -> Path | None:
        """What the nominal images say of each other; None of an ensemble, whose members say it."""
        path = self.model.parent / NOMINAL_CHECK
        return path if path.is_file() else None

    @property
    def heat_maps(self) -> Path | None:
        """The picture of the hardest and of typical test images; None where none were drawn."""
        path = self.folder / "plots" / "heat_maps.png"
        return path if path.is_file() else None

    @property
    def images(self) -> Path:
        """Where the manifest's paths start, relative to the project."""
        return images_of(str(self.config()["kind"]), self.settings, self.category)

    @property
    def history(self) -> Path | None:
        """The losses of f's training, where they lie with the evaluation: of a unified model."""
        path = self.folder / HISTORY
        return path if path.is_file() else None

    def config(self) -> dict[str, Any]:
        """The detector's config.json."""
        return _read(self.model / CONFIG)

    def metrics(self) -> dict[str, float | None]:
        """The figures of the whole test set and the timings; None for what is not available."""
        timings = _read(self.timings) if self.timings.is_file() else {}
        values = _read(self.folder / METRICS) | timings
        return {
            name: None if value is None else float(value)
            for name, value in sorted(values.items())
            if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        }

    def not_available(self) -> dict[str, str]:
        """Why each figure that is None is not there."""
        reasons = _read(self.folder / METRICS).get("not_available", {})
        return {
            name: str(reasons.get(name, "not available"))
            for name, value in self.metrics().items()
            if value is None
        }


def images_of(kind: str, settings: Settings, category: str) -> Path:
    """Where the paths in the manifest of a detector of this kind start, relative to the project."""
    root = settings.pipeline.root
    return root if kind == UNIFIED else root / category


def registered_name(dataset: str, category: str) -> str:
    """Name of a category's registered model."""
    return f"reconpatch-{dataset}-{category}"


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
