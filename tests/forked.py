"""A copy of this process, for tests of what several processes do at once."""

import os
import traceback
from collections.abc import Callable


def forked(work: Callable[[], object]) -> Callable[[], int]:
    """Start ``work`` in a copy of this process; returns what waits for its exit status.

    The copy runs no exit hooks: those that servers of earlier tests left belong to this process.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
