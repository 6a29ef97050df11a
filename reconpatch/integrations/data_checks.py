"""Data checks: one pass of great-expectations over a category's manifest, every problem by name."""

from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.data.layouts import category_roots
from reconpatch.data.manifest import COLUMNS, build_manifest
from reconpatch.data.quality_facts import derive_facts
from reconpatch.errors import DataError
from reconpatch.integrations.check_report import CRITICAL, WARNING, CheckReport, Problem
from reconpatch.integrations.data_docs import failing_paths, run_suite
from reconpatch.integrations.expectation_suite import build_suite
from reconpatch.integrations.optional_packages import import_extra
from reconpatch.settings import DataSettings, ValidateSettings

_STRAY = "belongs_to_category"
_USABLE = "is_a_category"
_GROUPS = "groups_are_usable"
_MOST_LISTED = 10
# What a whole category may be like: then one line says so.
_SUMMED_UP = ("one_size", "one_mode", "mask_is_binary", "no_near_copy", "mask_of_its_own")


def check_dataset(
    root: Path, data: DataSettings, validate: ValidateSettings, docs: Path | None = None
) -> dict[str, CheckReport]:
    """Check one category, or every category in a folder; what cannot even be listed is a problem too.

    Args:
        root: a category, or a folder of categories.
        data: how the images are read.
        validate: what they must satisfy.
        docs: folder for Data Docs, one subfolder a category; None: none are written.

    Returns:
        The report of each category by name, and of each other subfolder, which is told not to be one.

    Raises:
        DataError: ``root`` is no folder, or neither a category nor a folder of some.
        SettingsError: the group pattern cannot be used.
    """
    roots = category_roots(root)
    reports = {}
    for name, folder in roots.items():
        try:
            table = build_manifest(folder, data, tell_groups=True)
        except DataError as error:
            reports[name] = _refused(CRITICAL, str(error))
            continue
        reports[name] = check_manifest(table, validate, None if docs is None else docs / name)
    if root not in roots.values():
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and folder.name not in roots and not folder.name.startswith("."):
                reason = f"{folder}: is no category (it holds no image in a known layout); fill or remove it"
                reports[folder.name] = _refused(WARNING, reason)
    return reports


def check_manifest(table: pd.DataFrame, settings: ValidateSettings, docs: Path | None = None) -> CheckReport:
    """Check a category's manifest; every problem in one pass, each fault reported once.

    A category without test images or without masks passes: checks on what is absent hold trivially.
    May be called from several threads at once.

    Args:
        table: the manifest of one category (docs/architecture.md names the columns); ``attrs["strays"]``,
            where there is one, lists [path, reason] of files that belong to no image, ``attrs["faults"]``
            what is wrong with its ``groups.csv``.
        settings: section ``validate``.
        docs: folder for the Data Docs of great-expectations (``index.html``); None: none are written.

    Raises:
        DataError: the table lacks a column, or an expectation could not be evaluated at all.
        ReConPatchError: great_expectations is not installed.
    """
    if missing := [column for column in COLUMNS if column not in table.columns]:
        raise DataError(
            f"manifest: lacks the columns {', '.join(missing)}; build it again with build_manifest"
        )
    facts = derive_facts(table, settings)
    import_extra("great_expectations", "checking data")
    results = run_suite(facts, build_suite(facts, settings), docs)
    # Files that are no images of the category stand beside the table, in no row of it.
    problems = [Problem(_STRAY, WARNING, path, reason) for path, reason in table.attrs.get("strays", [])]
    problems += [Problem(_GROUPS, CRITICAL, path, reason) for path, reason in table.attrs.get("faults", [])]
    for result in results:
        problems += _problems(result, facts)
    problems.sort(key=lambda problem: (problem.severity, problem.path or "", problem.expectation))
    names = tuple(sorted([_STRAY, _GROUPS, *(result.expectation_config.meta["name"] for result in results)]))
    success = all(problem.severity != CRITICAL for problem in problems)
    return CheckReport(success, tuple(problems), names, len(facts))


def _refused(severity: str, reason: str) -> CheckReport:
    return CheckReport(severity != CRITICAL, (Problem(_USABLE, severity, None, reason),), (_USABLE,), 0)


def _problems(result: Any, facts: pd.DataFrame) -> list[Problem]:
    meta = result.expectation_config.meta
    name, severity = meta["name"], str(result.expectation_config.severity.value)
    if messages := _exceptions(result.exception_info):
        raise DataError(f"manifest: expectation {name} could not be evaluated: {'; '.join(messages)}")
    if result.success:
        return []
    paths = failing_paths(result)
    if paths is None:
        return [Problem(name, severity, None, meta["reason"].format(**result.result))]
    by_path = facts.drop_duplicates("path").set_index("path", drop=False)
    reasons = [meta["reason"].format_map(by_path.loc[path].to_dict()) for path in paths]
    if name in _SUMMED_UP and len(paths) > _MOST_LISTED:
        column = result.expectation_config.kwargs["column"]
        return [Problem(name, severity, None, _sum_up(column, facts, f"{paths[0]} {reasons[0]}", len(paths)))]
    return [Problem(name, severity, path, reason) for path, reason in zip(paths, reasons, strict=True)]


def _sum_up(column: str, facts: pd.DataFrame, example: str, count: int) -> str:
    if column not in ("size", "storage"):
        return f"{count} of {len(facts)} images, such as {example}"
    counts = facts.loc[facts["problem"].isna(), column].value_counts()
    return (
        f"{len(counts)} different {'sizes' if column == 'size' else 'modes'}; the most frequent, "
        f"{counts.index[0]}, has {counts.iloc[0]} of {counts.sum()} images"
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
