"""The outcome of data checks: every problem by name, and as JSON."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reconpatch.files import write_json

CRITICAL, WARNING = "critical", "warning"


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
        path = folder / "report.json"
        write_json(path, self.to_dict())
        return path
