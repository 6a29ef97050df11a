"""Images of the quarantine that a person has judged good since they were put there."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.data.probe_cache import ProbeCache
from reconpatch.line.inbox.arrivals import FLAGGED, REJECTED, SUSPICIOUS, Arrival
from reconpatch.line.inbox.quarantine import forget_record, read_record


def released_images(quarantine: Path, reviews: pd.DataFrame, seconds: float) -> Iterator[Arrival]:
    """Images that the champion or a person refused, and that a person has judged good since."""
    probes = ProbeCache(None, seconds)
    for record, kept in _judged_good(quarantine, reviews, (SUSPICIOUS, REJECTED)):
        file = record.with_suffix("")
        if file.is_file():
            yield Arrival(file, kept["name"], kept["group"], probes.image(file), kept["reason"])


def forget_accepted(quarantine: Path, reviews: pd.DataFrame) -> None:
    """Remove what is kept of images that joined and that a person has found good since."""
    for record, _ in _judged_good(quarantine, reviews, (FLAGGED,)):
        record.with_suffix("").unlink(missing_ok=True)
        forget_record(record, quarantine)


def _judged_good(
    quarantine: Path, reviews: pd.DataFrame, reasons: Sequence[str]
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Records of the quarantine for one of these reasons, of images that a person has judged good since."""
    good = set(reviews.loc[reviews["verdict"] == "good", "image_sha256"])
    for record in sorted(quarantine.glob("*.json")):
        kept = read_record(record)
        if kept is not None and kept["reason"] in reasons and kept["sha256"] in good:
            yield record, kept
