"""What the checks for drift found so far, and how sure the next one must be.

Checks share a week's false-alarm rate by time: one that comes h hours after the one before spends h of the
week's 168. However many there are, and whether they overlap or not, their levels add up to the rate a week.
A line with few images is checked rarely and at a high level, one with many every hour at a low one.
Libraries weighed: evidently gives each report its own level, so false alarms grow with the number of reports;
alibi-detect states a run length in single images, and its licence (BSL 1.1) is not open.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import TypeAdapter

from reconpatch.errors import DataError
from reconpatch.storage.atomic_files import write_json

WEEK = timedelta(days=7)
CLOSEST = timedelta(minutes=30)
_KEPT = 5_000  # half a year of hourly checks


@dataclass(frozen=True)
class DriftCheck:
    """One check.

    Attributes:
        time: when it was made, with its zone.
        since: of the first image compared.
        until: of the last.
        model_version: of the detector that saw them.
        reference: held-out groups.
        window: new groups.
        level: largest p-value that is an alarm.
        p_value: of all statistics together.
        shifts: p-value of each alone.
        rejects: share of the images that were rejected; None: the detector is not calibrated.
    """

    time: datetime
    since: datetime
    until: datetime
    model_version: str
    reference: int
    window: int
    level: float
    p_value: float
    shifts: dict[str, float]
    rejects: float | None

    @property
    def alarm(self) -> bool:
        """Whether the images had drifted."""
        return self.p_value <= self.level

    @property
    def moved(self) -> str:
        """The statistic that stands out most."""
        return min(self.shifts, key=self.shifts.__getitem__)


_CHECKS = TypeAdapter(list[DriftCheck])


def next_level(rate: float, checks: Sequence[DriftCheck], first: datetime, now: datetime) -> float | None:
    """The level of a check that is made now.

    Args:
        rate: false alarms a week, in (0, 1).
        checks: the checks so far, oldest first.
        first: time of the first image ever compared, which the first check counts from.
        now: time with its zone.

    Returns:
        At most ``rate``; None where it is too early for another check.
    """
    if not checks:
        return rate * (min(max(now - first, timedelta(hours=1)), WEEK) / WEEK)
    passed = now - checks[-1].time
    return None if passed < CLOSEST else rate * (min(passed, WEEK) / WEEK)


def read_drift_checks(path: Path) -> list[DriftCheck]:
    """The checks so far, oldest first; none where there is no file.

    Raises:
        DataError: the file holds something else.
    """
    try:
        return _CHECKS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]  # pydantic's has several lines
        raise DataError(
            f"{path}: holds no checks for drift ({reason}); move it away, and the checks begin anew"
        ) from None


def append_drift_check(path: Path, check: DriftCheck) -> None:
    """Add a check; the latest 5,000 are kept."""
    kept = [*read_drift_checks(path), check][-_KEPT:]
    write_json(path, _CHECKS.dump_python(kept, mode="json"))
