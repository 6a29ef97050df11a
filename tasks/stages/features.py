"""Stage features: patch features of the nominal training images go to the cache; the output is an index."""

from pathlib import Path

from reconpatch.device import choose_device, limit_threads
from reconpatch.features.patch_features import extract_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.region import read_region
from reconpatch.storage.atomic_files import write_json
from tasks.running.read_outputs import INDEX, feature_cache, load_training
from tasks.running.stage_folders import Job


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``index.json``: which block of the cache each image has, what blocks hold, what counts."""
    settings = job.detector_settings
    limit_threads(settings.threads)
    extractor = PatchExtractor(settings.features, choose_device(settings.device))
    images = load_training(job)
    region = None
    if images.region is not None:
        region = read_region(images.region, images.paths, settings, extractor.grid)
    features = extract_features(images.paths, extractor, feature_cache(job), region=region)
    write_json(folder / INDEX, features.to_index(job.images))
    return {}


def part(job: Job, number: int) -> None:
    """Compute the features of one of ``pipeline.parts`` shares of the images, into the cache.

    Each share is whole batches: the network sees the same ones as if there were no shares.
    """
    settings = job.detector_settings
    limit_threads(settings.threads)
    paths, size = load_training(job).paths, settings.features.batch_size
    share = -(-len(paths) // (size * settings.pipeline.parts)) * size
    own = paths[number * share : (number + 1) * share]
    if own:
        extractor = PatchExtractor(settings.features, choose_device(settings.device))
        extract_features(own, extractor, feature_cache(job))
