"""What was found wrong with the images, told in the Prefect run.

Of `validate` a table of problems and the way to the Data Docs, of `calibrate` the suspicious nominal images.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.support.prefect_artifacts import artifact_key
from reconpatch.errors import ReConPatchError
from reconpatch.integrations.check_report import ChecksFailedError
from reconpatch.text.csv_files import read_frame
from reconpatch.text.markdown import plain_markdown
from tasks.registry.data_checks_run import Checks, log_checks
from tasks.running.stage_folders import Job
from tasks.running.stage_table import NOMINAL_CHECK

_MOST_LISTED = 100


@contextmanager
def publishing(stage: str, job: Job) -> Iterator[None]:
    """Around a stage: publish what it found, whether that stops the category or not."""
    try:
        yield
    except ChecksFailedError:
        _publish(job)
        raise
    if stage == "validate":
        _publish(job)
    if stage == "calibrate":
        _publish_suspects(job)


def _publish(job: Job) -> None:
    checks = Checks.read(job)
    if checks is None:  # an older run's outputs, without Data Docs
        return
    try:
        place = log_checks(job, checks)
    except ReConPatchError as error:
        place = f"not logged ({error})"
        get_run_logger().warning("Data Docs of %s: %s", job.category, place)
    create_markdown_artifact(
        key=artifact_key("data-checks", job.settings.pipeline.dataset, job.category),
        markdown=describe(job, checks, place),
        description=f"Data checks of {job.settings.pipeline.dataset}, {job.category}",
    )


def _publish_suspects(job: Job) -> None:
    table = read_frame(job.folder("calibrate") / NOMINAL_CHECK, text=["path"])
    found = table[table["suspicious"].eq(True)]
    if found.empty:
        return
    listed = found.head(_MOST_LISTED).drop(columns="suspicious").to_dict("records")
    create_table_artifact(
        key=artifact_key("nominal-check", job.settings.pipeline.dataset, job.category, str(job.backbone)),
        table=[{str(name): value for name, value in row.items()} for row in listed],
        description=f"{len(found)} of {len(table)} nominal images of {job.category} look unlike all others; "
        "is each a good part? `reconpatch data review bad IMAGE` says no",
    )


def describe(job: Job, checks: Checks, place: str) -> str:
    """The findings as Markdown; ``place`` is where MLflow has them."""
    values, problems = checks.values, checks.values["problems"]
    link = f"[{place}]({place})" if place.startswith("http") else plain_markdown(place)
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
        lines.append("| " + " | ".join(map(plain_markdown, cells)) + " |")
    if len(problems) > _MOST_LISTED:
        lines += ["", f"and {len(problems) - _MOST_LISTED} more: see the Data Docs"]
    return "\n".join(lines)
