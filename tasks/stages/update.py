"""An update in the place of the stage calibrate: the champion learns the category's new nominal images.

It is no stage of DVC, since it starts from what the registry calls champion; and no command, since the
flow `retrain` alone decides when it is right.
"""

from dataclasses import asdict, replace
from pathlib import Path

from reconpatch.detector import ReConPatch
from reconpatch.settings import Settings
from reconpatch.storage.atomic_files import write_json
from tasks.registry.champion import Champion, fetch_champion
from tasks.registry.finished_evaluation import UPDATED_FROM
from tasks.running.read_outputs import feature_cache, load_manifest
from tasks.running.stage_folders import Job, runs_folder

_CHAMPION = "champion"


def update_job(settings: Settings, project: Path, champion: Champion) -> Job:
    """What an update of this champion is run for: a folder of its own below ``runs/``.

    The champion is part of the folder's name, as the parameters are: another one is another folder.
    """
    outputs = runs_folder([champion.output_digest, settings.model_dump(mode="json", by_alias=True)], project)
    return Job(settings, champion.category, champion.backbone, project, outputs)


def prepare(job: Job, champion: Champion) -> Job:
    """Fetch the champion, once.

    Returns:
        The job with the champion's own parameters for all that belongs to a detector.
    """
    folder = job.outputs / _CHAMPION
    write_json(job.outputs / UPDATED_FROM, asdict(champion))  # before the folder that says all is there
    if not folder.is_dir():
        fetch_champion(champion, folder, job.settings, job.project)
    fitted = ReConPatch.load(folder).settings
    own = ("seed", "features", "modulation", "coreset", "scoring", "calibrate")
    return replace(
        job, settings=job.settings.model_copy(update={name: getattr(fitted, name) for name in own})
    )


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``model/``, as the stage calibrate does."""
    settings, table = job.settings, load_manifest(job)
    detector = ReConPatch.load(
        job.outputs / _CHAMPION,
        device=settings.device,
        threads=settings.threads,
        cache=feature_cache(job),
    )
    # With the images that it knows: they say which groups the new ones belong to, and calibrate it again.
    detector.update(
        table[(table["split"] == "train") & (table["label"] == 0)], mode=settings.retrain.update_mode
    )
    detector.save(folder / "model")
    return {}
