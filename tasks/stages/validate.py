"""Stage validate: the manifest of a category and the checks on it; a critical problem stops here."""

from pathlib import Path

from reconpatch.data.manifest import build_manifest, manifest_digest, write_manifest
from reconpatch.integrations.check_report import ChecksFailedError
from reconpatch.integrations.data_checks import check_manifest
from reconpatch.storage.atomic_files import atomic_folder, remove_abandoned, write_json
from tasks.running.stage_folders import Job, probe_cache

CHECKS = "checks.json"


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``manifest.parquet`` and ``report.json``, and the Data Docs to ``job.data_docs``.

    The Data Docs hold times of day, so they are no output of the stage; after a failure they are there too.

    Raises:
        ChecksFailedError: a check with severity critical failed; the message lists every problem, as the Data
            Docs do.
    """
    seen = probe_cache(job.settings, job.category, job.project)
    table = build_manifest(job.images, job.settings.data, cache=seen, tell_groups=True)
    remove_abandoned(job.data_docs)
    with atomic_folder(job.data_docs) as docs:
        report = check_manifest(table, job.settings.validate_, docs)
        write_json(docs / CHECKS, {"manifest_digest": manifest_digest(table), **report.to_dict()})
    if not report.success:
        listed = "\n".join(f"  {problem}" for problem in report.problems)
        raise ChecksFailedError(f"{job.images}: the data checks failed; mend or remove these:\n{listed}")
    # Equal images are equal bytes, wherever the project lies; `inputs` puts the root back.
    table.attrs["root"] = "."
    write_manifest(table, folder / "manifest.parquet")
    report.write(folder)
    return {}
