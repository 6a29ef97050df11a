"""Data checks: one pass of great-expectations over a category's manifest, every problem by name."""

import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.errors import DataError
from reconpatch.files import write_json
from reconpatch.integrations.expectation_suite import MANIFEST_COLUMNS, build_suite, derive_facts
from reconpatch.integrations.extras import import_extra
from reconpatch.settings import ValidateSettings

# great-expectations keeps the context in a process-wide registry: one validation at a time (0.2 s each).
_ONE_AT_A_TIME = threading.Lock()
_STRAY = "belongs_to_category"
_MOST_LISTED = 10
_SUMMED_UP = ("one_size", "one_mode")


@dataclass(frozen=True)
class Problem:
    """One fault of the data.

    Attributes:
        expectation: which expectation failed, such as ``mask_fits``.
        severity: ``critical`` stops the pipeline, ``warning`` does not.
        path: the image, relative to the category root; None for the category as a whole.
        reason: what is wrong, for people.
    """

    expectation: str
    severity: str
    path: str | None
    reason: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.path + ': ' if self.path else ''}{self.reason} [{self.expectation}]"


@dataclass(frozen=True)
class CheckReport:
    """Outcome of the data checks of one category.

    Attributes:
        success: whether no problem is critical.
        problems: every problem, critical ones first, then by path.
        expectations: the expectations that were checked, by name.
        images: number of images in the manifest.
    """

    success: bool
    problems: tuple[Problem, ...]
    expectations: tuple[str, ...]
    images: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; equal reports are equal bytes."""
        counts = Counter(problem.severity for problem in self.problems)
        return {
            "success": self.success,
            "images": self.images,
            "critical": counts["critical"],
            "warning": counts["warning"],
            "expectations": list(self.expectations),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def write(self, folder: Path) -> Path:
        """Write ``report.json`` into ``folder`` and return its path."""
        path = folder / "report.json"
        write_json(path, self.to_dict())
        return path


def check_manifest(table: pd.DataFrame, settings: ValidateSettings) -> CheckReport:
    """Check a category's manifest; every problem in one pass, each fault reported once.

    A category without test images or without masks passes: checks on what is absent hold trivially.
    May be called from several threads at once.

    Args:
        table: the manifest of one category (docs/architecture.md names the columns); ``attrs["strays"]``,
            where there is one, lists [path, reason] of files that belong to no image.
        settings: section ``validate``.

    Raises:
        DataError: the table lacks a column, or an expectation could not be evaluated at all.
        ReConPatchError: great_expectations is not installed.
    """
    if missing := [column for column in MANIFEST_COLUMNS if column not in table.columns]:
        raise DataError(
            f"manifest: lacks the columns {', '.join(missing)}; build it again with build_manifest"
        )
    facts = derive_facts(table)
    with _ONE_AT_A_TIME:
        results = _validate(facts, settings)
    # Files that are no images of the category stand beside the table, in no row of it.
    problems = [Problem(_STRAY, "warning", path, reason) for path, reason in table.attrs.get("strays", [])]
    for result in results:
        problems += _problems(result, facts)
    problems.sort(key=lambda problem: (problem.severity, problem.path or "", problem.expectation))
    names = tuple(sorted([_STRAY, *(result.expectation_config.meta["name"] for result in results)]))
    success = all(problem.severity != "critical" for problem in problems)
    return CheckReport(success, tuple(problems), names, len(facts))


def _validate(facts: pd.DataFrame, settings: ValidateSettings) -> list[Any]:
    """Results of the suite; the import takes seconds and happens with the first check."""
    gx = import_extra("great_expectations", "checking data")
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("images")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": facts})
    suite = context.suites.add(build_suite(facts, settings))
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
    return list(batch.validate(suite, result_format=wanted).results)


def _problems(result: Any, facts: pd.DataFrame) -> list[Problem]:
    meta = result.expectation_config.meta
    name, severity = meta["name"], str(result.expectation_config.severity.value)
    if messages := _exceptions(result.exception_info):
        raise DataError(f"manifest: expectation {name} could not be evaluated: {'; '.join(messages)}")
    if result.success:
        return []
    rows = result.result.get("unexpected_index_list")
    if rows is None:
        return [Problem(name, severity, None, meta["reason"].format(**result.result))]
    paths = sorted({str(row["path"]) for row in rows})
    if name in _SUMMED_UP and len(paths) > _MOST_LISTED:
        return [Problem(name, severity, None, _sum_up(name, facts))]
    by_path = facts.drop_duplicates("path").set_index("path", drop=False)
    reasons = [meta["reason"].format_map(by_path.loc[path].to_dict()) for path in paths]
    return [Problem(name, severity, path, reason) for path, reason in zip(paths, reasons, strict=True)]


def _sum_up(name: str, facts: pd.DataFrame) -> str:
    counts = facts.loc[facts["problem"].isna(), name.removeprefix("one_")].value_counts()
    return (
        f"{len(counts)} different {name.removeprefix('one_')}s; the most frequent, {counts.index[0]}, "
        f"has {counts.iloc[0]} of {counts.sum()} images"
    )


def _exceptions(info: dict[str, Any] | None) -> list[str]:
    """Messages of what was raised; great-expectations nests them by metric, or not."""
    info = info or {}
    entries = (
        [info]
        if "raised_exception" in info
        else [entry for entry in info.values() if isinstance(entry, dict)]
    )
    return sorted({str(entry["exception_message"]) for entry in entries if entry.get("raised_exception")})
