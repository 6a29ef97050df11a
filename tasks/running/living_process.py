"""Whether a process that is known by its number alone is gone."""

import psutil


def is_gone(pid: int, since: float) -> bool:
    """Whether no process of this machine has the number, or one that began later: numbers are given anew.

    Args:
        pid: the process's number.
        since: when the process was there, in seconds since the epoch.
    """
    try:
        return bool(psutil.Process(pid).create_time() > since)
    except psutil.NoSuchProcess:
        return True
