"""Stage evaluate: figures, scores, pictures and the report of the detector on the category's test images."""

from pathlib import Path

from reconpatch.detector import ReConPatch
from reconpatch.device import limit_threads
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.model_folder import FittedParts
from tasks.inputs import load_manifest
from tasks.job import Job
from tasks.stage import main


def run(job: Job, folder: Path) -> dict[str, float | None]:
    """Write ``metrics.json``, ``scores.csv``, ``report.html`` and ``plots/``; return the timings."""
    settings = job.detector_settings
    limit_threads(settings.threads)
    detector = ReConPatch.load(
        job.folder("calibrate") / "model", device=settings.device, threads=settings.threads, cache=job.cache
    )
    evaluation = evaluate(detector, load_manifest(job), settings)
    evaluation.write(folder, _lineage(detector.parts))
    # Which pictures there are depends on the test set, and a stage's outputs have fixed names.
    (folder / "plots").mkdir()
    for picture in folder.glob("*.png"):
        picture.rename(folder / "plots" / picture.name)
    return evaluation.timings


def _lineage(parts: FittedParts) -> dict[str, str]:
    return {
        "backbone": parts.backbone.name,
        "weights": f"{parts.backbone.weights_source}, sha256 {parts.backbone.weights_sha256}",
        "training images": f"{len(parts.training_set)}, sha256 {parts.training_set.sha256}",
        "memory bank": f"{len(parts.bank)} vectors of {parts.bank.dim}",
    }


if __name__ == "__main__":
    main("evaluate")
