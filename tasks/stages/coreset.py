"""Stage coreset: the memory bank, selected from the fit images' patches in f's space."""

from collections.abc import Iterator
from pathlib import Path

from reconpatch.coreset.bank_selection import bank_of_parts, fit_bank, plan_bank, reduce_part
from reconpatch.coreset.merge_reduce import Plan
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.modulation import AnyModulation
from reconpatch.storage.atomic_files import sha256_file, sha256_json
from tasks.running.content_hashes import hasher_of
from tasks.running.coreset_chunks import read_chunk, write_chunk
from tasks.running.read_outputs import HEAD, load_images, load_modulation, load_split
from tasks.running.source_code import stage_code
from tasks.running.stage_folders import Job
from tasks.running.stage_table import STAGES


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``bank.safetensors``, from what `part` kept where all of it is there."""
    settings, features, modulation = job.detector_settings, *_inputs(job)
    plan = plan_bank(features, modulation, settings)
    reduced = []
    if settings.pipeline.parts > 1 and plan.chunks > 1:
        reduced = [read_chunk(job, key) for key in _keys(job, features, plan)]
    kept = [chunk for chunk in reduced if chunk is not None]
    if kept and len(kept) == plan.chunks:
        bank = bank_of_parts(kept, plan, settings)
    else:
        bank = fit_bank(features, modulation, settings)
    bank.save(folder / "bank.safetensors")
    return {}


def part(job: Job, number: int) -> None:
    """Reduce one of ``pipeline.parts`` shares of the chunks; selection that needs no chunks has none."""
    settings, features, modulation = job.detector_settings, *_inputs(job)
    plan = plan_bank(features, modulation, settings)
    if plan.chunks == 1:
        return
    for chunk, key in enumerate(_keys(job, features, plan)):
        if chunk % settings.pipeline.parts == number and read_chunk(job, key) is None:
            write_chunk(job, key, reduce_part(features, modulation, plan, chunk, settings))


def _inputs(job: Job) -> tuple[PatchFeatures, AnyModulation]:
    features = load_images(job).features.subset(load_split(job).fit)
    return features, load_modulation(job, features.dim)


def _keys(job: Job, features: PatchFeatures, plan: Plan) -> Iterator[str]:
    """What each chunk's reduction depends on, its code included."""
    head = job.folder("train") / "head" / HEAD
    settings, hasher = job.detector_settings, hasher_of(job.project)
    common = [
        features.keys,
        features.platform,
        sha256_file(head) if head.is_file() else None,
        [plan.total, plan.size, plan.capacity],
        [settings.seed, settings.threads, settings.device],
        [hasher.digest(job.project / path) for path in stage_code(STAGES["coreset"], job.project)],
    ]
    digest = sha256_json(common)
    return (sha256_json([digest, number]) for number in range(plan.chunks))
