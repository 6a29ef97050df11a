"""How much memory selection may use when nobody says."""

import os
from contextlib import suppress
from pathlib import Path

_DEFAULT = 2 << 30
_SHARE = 0.25
_UNKNOWN = 8 << 30
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def default_memory_budget(least: int = 0) -> int:
    """2 GiB, so that memory does not grow with the data; ``least`` where that is more; in bytes.

    Never more than a quarter of the machine's memory, or of the container's where that is less. A system
    that does not tell its memory counts as one with 8 GiB.

    Args:
        least: what the work needs whatever the number of images.
    """
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        machine = _UNKNOWN
    # Absent outside containers, and "max" in one without a limit.
    with suppress(OSError, ValueError):
        machine = min(machine, int(_CGROUP_LIMIT.read_text()))
    return min(max(_DEFAULT, least), int(machine * _SHARE))
