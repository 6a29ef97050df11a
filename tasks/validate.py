"""Stage validate: the manifest of a category and the checks on it; a critical problem stops here."""

from pathlib import Path

from reconpatch.data.manifest import build_manifest, write_manifest
from reconpatch.errors import DataError
from reconpatch.integrations.expectations import check_manifest
from tasks.job import Job, probe_cache
from tasks.stage import main


def run(job: Job, folder: Path) -> dict[str, float]:
    """Write ``manifest.parquet`` and ``report.json``.

    Raises:
        DataError: a check with severity critical failed; the message lists every problem.
    """
    seen = probe_cache(job.settings, job.category, job.project)
    table = build_manifest(job.images, job.settings.data, cache=seen)
    report = check_manifest(table, job.settings.validate_)
    if not report.success:
        listed = "\n".join(f"  {problem}" for problem in report.problems)
        raise DataError(f"{job.images}: the data checks failed; mend or remove these:\n{listed}")
    # Equal images are equal bytes, wherever the project lies; `inputs` puts the root back.
    table.attrs["root"] = "."
    write_manifest(table, folder / "manifest.parquet")
    report.write(folder)
    return {}


if __name__ == "__main__":
    main("validate")
