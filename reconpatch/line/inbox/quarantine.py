"""Files that ingest put aside: their names, and the record that the quarantine keeps beside each."""

import json
import logging
from pathlib import Path, PurePosixPath
from typing import Any

from reconpatch.line.inbox.arrivals import Arrival
from reconpatch.storage.atomic_files import sha256_file, sha256_json

HEATMAPS = "heatmaps"  # below a quarantine
_RECORD = ("sha256", "name", "group", "reason", "detail")

_LOG = logging.getLogger(__name__)


def quarantine_name(arrival: Arrival) -> str:
    """The file name of an arrival that is put aside."""
    # By its place in the inbox too: two refused files may have one content.
    mark = sha256_json([arrival.probe.sha256 or readable_sha256(arrival.file), arrival.name])[:12]
    name = PurePosixPath(arrival.name)
    return f"{name.stem}-{mark}{name.suffix}"


def readable_sha256(path: Path) -> str | None:
    """The SHA-256 of a file; None where it cannot be read."""
    try:
        return sha256_file(path)
    except OSError:
        return None


def forget_record(record: Path, quarantine: Path) -> None:
    """Remove what the quarantine keeps beside an image: its record and its heat map."""
    if not record.is_file():
        return
    heatmap = (read_record(record) or {}).get("heatmap")
    if heatmap:
        (quarantine / HEATMAPS / heatmap).unlink(missing_ok=True)
    record.unlink()


def read_record(path: Path) -> dict[str, Any] | None:
    """What the quarantine keeps beside a file; None, with a warning, where that cannot be read.

    Returns:
        Keys ``sha256``, ``name``, ``group``, ``judge``, ``reason``, ``detail`` and ``heatmap``; text or None.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or not all(isinstance(values.get(name), str) for name in _RECORD):
            raise ValueError(f"it lacks one of {', '.join(_RECORD)}")
    except (OSError, ValueError, RecursionError) as error:
        _LOG.warning(
            "%s: is no record of the quarantine (%s), so the file beside it stays there whatever is said of "
            "it; move that file back to the inbox and remove the record",
            path,
            error,
        )
        return None
    return values
