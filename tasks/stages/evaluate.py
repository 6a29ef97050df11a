"""Stage evaluate: figures, scores, pictures and the report of the detector on the category's test images."""

from pathlib import Path

from reconpatch.device import limit_threads
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.evaluation_result import Evaluation
from reconpatch.evaluation.report.html_report import write_evaluation
from reconpatch.loading import load
from reconpatch.storage.detector_folder import lineage_of
from tasks.running.read_outputs import load_manifest
from tasks.running.stage_folders import Job


def run(job: Job, folder: Path) -> dict[str, float | None]:
    """Write the evaluation's files, with its pictures in ``plots/``; return the timings."""
    settings = job.detector_settings
    limit_threads(settings.threads)
    detector = load(
        job.folder("calibrate") / "model", device=settings.device, threads=settings.threads, cache=job.cache
    )
    evaluation = evaluate(detector, load_manifest(job), settings)
    write_outputs(evaluation, folder, lineage_of(detector.member_parts))
    return evaluation.timings


def write_outputs(evaluation: Evaluation, folder: Path, lineage: dict[str, str]) -> None:
    """Write an evaluation under names that do not depend on the test set, as a stage's outputs must be."""
    write_evaluation(evaluation, folder, lineage)
    (folder / "plots").mkdir()
    for picture in folder.glob("*.png"):
        picture.rename(folder / "plots" / picture.name)
