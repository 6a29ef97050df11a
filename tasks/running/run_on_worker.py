"""A stage on whatever machine runs it: its inputs are fetched, its outputs go to the shared store."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from tasks.running.folder_transfer import bring, bring_images, send
from tasks.running.run_stage import Finished, run_stage
from tasks.running.stage_folders import Job
from tasks.running.stage_table import stage_or_variant

Held = Callable[[], AbstractContextManager[None]]
ImageTrees = Mapping[str, str | None]  # by category the images' digest in the shared store


def run_on_worker(
    name: str,
    job: Job,
    before: Sequence[Finished | None] = (),
    images: ImageTrees | None = None,
    around: Held = nullcontext,
) -> Finished:
    """Run a stage where its inputs may lie on another machine.

    Args:
        name: of the stage or of a variant.
        job: what to run it for.
        before: what the stages before it finished; None of parts.
        images: None: they lie here.
        around: gives what must be held while the body runs, such as the lock of a GPU.

    Raises:
        ReConPatchError: as `run_stage`, or an input cannot be fetched.
    """
    _fetch_inputs(name, job, before, images)
    return send(run_stage(name, job, around=around))


def run_part_on_worker(
    name: str,
    job: Job,
    number: int,
    before: Sequence[Finished | None] = (),
    images: ImageTrees | None = None,
    around: Held = nullcontext,
) -> None:
    """Do a share of a stage's work ahead of it: its result waits in a cache.

    Args:
        name: of the stage.
        job: what to do it for.
        number: of the share, below ``pipeline.parts``.
        before: as for `run_on_worker`, and so is what follows.
        images: None: they lie here.
        around: what must be held during the work.
    """
    _fetch_inputs(name, job, before, images)
    with around():
        importlib.import_module(f"tasks.stages.{name}").part(job, number)


def _fetch_inputs(name: str, job: Job, before: Sequence[Finished | None], images: ImageTrees | None) -> None:
    if stage_or_variant(name).data:
        for one in job.by_category:
            bring_images(one, (images or {}).get(one.category))
    bring([item for item in before if item is not None])
