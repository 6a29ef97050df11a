"""The outcome of data checks: every problem by name, and as JSON."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import write_json

CRITICAL, WARNING = "critical", "warning"
REPORT = "report.json"


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
            "critical": counts[CRITICAL],
            "warning": counts[WARNING],
            "expectations": list(self.expectations),
            "problems": [asdict(problem) for problem in self.problems],
        }

    def write(self, folder: Path) -> Path:
        """Write ``report.json`` into ``folder`` and return its path."""
        path = folder / REPORT
        write_json(path, self.to_dict())
        return path

    @classmethod
    def read(cls, folder: Path) -> "CheckReport":
        """Read what `write` wrote."""
        values = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        return cls(
            bool(values["success"]),
            tuple(Problem(**problem) for problem in values["problems"]),
            tuple(values["expectations"]),
            int(values["images"]),
        )


class ChecksFailedError(DataError):
    """A check with severity critical failed.

    Attributes:
        reports: of each category that was checked, by name.
    """

    def __init__(self, message: str, reports: Mapping[str, CheckReport] | None = None) -> None:
        """With a message for people, and the reports that it is about."""
        super().__init__(message)
        self.reports = dict(reports or {})


def join_reports(reports: Mapping[str, CheckReport]) -> CheckReport:
    """The reports of several categories, by name, as one; its paths start with the category's name."""
    problems = [
        replace(one, path=name if one.path is None else f"{name}/{one.path}")
        for name, report in reports.items()
        for one in report.problems
    ]
    return CheckReport(
        all(report.success for report in reports.values()),
        tuple(sorted(problems, key=lambda one: one.severity != CRITICAL)),
        tuple(dict.fromkeys(name for report in reports.values() for name in report.expectations)),
        sum(report.images for report in reports.values()),
    )
