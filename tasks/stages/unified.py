"""Stage unified: one model for all categories, with its figures as it stands and on each category."""

from pathlib import Path

from reconpatch.calibration.held_out_images import image_statistics_of
from reconpatch.data.manifest import join_manifests, write_manifest
from reconpatch.device import limit_threads
from reconpatch.evaluation.report.figure_style import png_bytes
from reconpatch.evaluation.report.score_plots import losses_figure
from reconpatch.integrations.check_report import CheckReport, join_reports
from reconpatch.storage.detector_folder import lineage_of
from reconpatch.training.training_loop import write_history
from reconpatch.unified.unified_detector import Unified
from reconpatch.unified.unified_evaluation import evaluate_all
from reconpatch.unified.unified_fit import fit_categories
from reconpatch.unified.unified_folder import write_unified
from tasks.running.read_outputs import load_backbone_reference, load_images, load_manifest
from tasks.running.stage_folders import Job
from tasks.running.stage_table import CATEGORIES, HISTORY
from tasks.stages.evaluate import write_outputs


def run(job: Job, folder: Path) -> dict[str, float | None]:
    """Write ``model/``, which `reconpatch.load` reads, ``data/`` and ``evaluation/``; return the timings.

    ``data/`` holds the manifest and the data checks of all categories as one, ``evaluation/`` the figures of
    the model without a category told, the losses of f's training, and below ``categories/`` the same as
    `evaluate` writes for each category, told its name.
    """
    settings, jobs = job.detector_settings, job.by_category
    limit_threads(settings.threads)
    tables = {one.category: load_manifest(one) for one in jobs}
    images = {one.category: load_images(one) for one in jobs}
    backbone = load_backbone_reference(next(iter(images.values())).features, settings.features)
    statistics = {
        digest: look for table in tables.values() for digest, look in image_statistics_of(table).items()
    }
    fitted = fit_categories(images, backbone, settings, statistics)
    history = fitted.history
    write_unified(folder / "model", fitted.parts)
    _write_data(job, folder / "data")

    model = Unified.load(folder / "model", device=settings.device, threads=settings.threads, cache=job.cache)
    whole, named = evaluate_all(model, tables, job.images, settings)
    write_outputs(whole, folder / "evaluation", lineage_of(model.member_parts))
    write_history(folder / "evaluation" / HISTORY, history)
    if history:
        losses = png_bytes(losses_figure(history, whole.category))
        (folder / "evaluation" / "plots" / "losses.png").write_bytes(losses)
    for name, one in named.items():
        place = folder / "evaluation" / CATEGORIES / name
        write_outputs(one, place, lineage_of(model.of_category(name).member_parts))
    return whole.timings


def _write_data(job: Job, folder: Path) -> None:
    folder.mkdir()
    # Equal images are equal bytes, wherever the project lies, as in `validate`.
    table = join_manifests({one.category: load_manifest(one) for one in job.by_category}, Path())
    write_manifest(table, folder / "manifest.parquet")
    reports = {one.category: CheckReport.read(one.folder("validate")) for one in job.by_category}
    join_reports(reports).write(folder)
