"""What the data checks found, told in the Prefect run: a table of problems and the way to the Data Docs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from reconpatch.errors import ReConPatchError
from tasks.data_docs import Checks, log_checks
from tasks.job import Job
from tasks.validate import ChecksFailedError

_MOST_LISTED = 100


@contextmanager
def publishing(stage: str, job: Job) -> Iterator[None]:
    """Around the stage `validate`: publish its findings, whether they stop the category or not."""
    try:
        yield
    except ChecksFailedError:
        _publish(job)
        raise
    if stage == "validate":
        _publish(job)


def _publish(job: Job) -> None:
    checks = Checks.read(job)
    if checks is None:  # an older run's outputs, without Data Docs
        return
    try:
        place = log_checks(job, checks)
    except ReConPatchError as error:
        place = f"not logged ({error})"
        get_run_logger().warning("Data Docs of %s: %s", job.category, place)
    name = f"data-checks-{job.settings.pipeline.dataset}-{job.category}".lower()
    create_markdown_artifact(
        key=re.sub(r"[^a-z0-9]+", "-", name).strip("-"),
        markdown=describe(job, checks, place),
        description=f"Data checks of {job.settings.pipeline.dataset}, {job.category}",
    )


def describe(job: Job, checks: Checks, place: str) -> str:
    """The findings as Markdown; ``place`` is where MLflow has them."""
    values, problems = checks.values, checks.values["problems"]
    link = f"[{place}]({place})" if place.startswith("http") else place
    lines = [
        f"**{job.category}**: {values['images']} images, {values['critical']} critical, "
        f"{values['warning']} warning; {'passed' if values['success'] else 'FAILED'}",
        "",
        f"Data Docs: MLflow, {link}; on this machine `{checks.page}`",
    ]
    if problems:
        lines += ["", "| severity | file | problem |", "|---|---|---|"]
    for problem in problems[:_MOST_LISTED]:
        cells = (problem["severity"], problem["path"] or "", problem["reason"])
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    if len(problems) > _MOST_LISTED:
        lines += ["", f"and {len(problems) - _MOST_LISTED} more: see the Data Docs"]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"([\\`*_|<\[])", r"\\\1", " ".join(text.split()))
