"""Stage ensemble: the backbones' detectors fused to one more, with its figures on the test images."""

from pathlib import Path

from reconpatch.detector import ReConPatch
from reconpatch.device import limit_threads
from reconpatch.ensemble import fuse_members
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.storage.detector_folder import lineage_of
from tasks.running.read_outputs import load_images, load_manifest
from tasks.running.stage_folders import Job
from tasks.stages.evaluate import write_outputs


def run(job: Job, folder: Path) -> dict[str, float | None]:
    """Write ``model/``, which `reconpatch.load` reads, and ``evaluation/``; return the timings."""
    settings = job.settings
    limit_threads(settings.threads)
    members = [
        ReConPatch.load(
            one.folder("calibrate") / "model",
            device=settings.device,
            threads=settings.threads,
            cache=job.cache,
        )
        for one in job.members
    ]
    held = set(members[0].training_set.holdout)
    holdout = []
    for one in job.members:
        features = load_images(one).features
        positions = [i for i, digest in enumerate(features.image_digests) if digest in held]
        holdout.append(features.subset(positions))
    ensemble = fuse_members(members, holdout)
    ensemble.save(folder / "model")
    evaluation = evaluate(ensemble, load_manifest(job), settings)
    write_outputs(evaluation, folder / "evaluation", lineage_of(ensemble.member_parts))
    return evaluation.timings
