"""Which failures may be gone soon, and how long a flow waits for that."""

import errno
import logging
from typing import Any

from prefect.client.schemas.objects import State
from requests.exceptions import ConnectionError as Unreachable
from requests.exceptions import Timeout

from flows.support.flow_failures import told
from reconpatch.errors import ReConPatchError
from tasks.running.dvc_commit import DvcBusyError

_LOG = logging.getLogger("tasks.retries")  # one of the loggers that Prefect keeps with the run

# A file server that is away for a moment. A full disk is not among them: trying again does not empty it.
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH}


def may_pass(error: BaseException | None) -> bool:
    """Whether the cause of an error, however it was told on the way, is one that may be gone soon."""
    while error is not None:
        if isinstance(error, (Unreachable, Timeout)):
            return True
        if isinstance(error, OSError) and error.errno in _PASSING:
            return True
        error = error.__cause__ or error.__context__
    return False


def retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """`may_pass` as Prefect asks it."""
    error = state.result(raise_on_failure=False)
    return may_pass(error) or _given_up(error)


def is_busy(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether a task failed because another process holds DVC's lock."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, DvcBusyError) or _given_up(error)


def _given_up(error: Any) -> bool:
    """False; an error that nobody expected leaves its traceback: where tries are left, Prefect logs none."""
    if isinstance(error, Exception) and not isinstance(error, ReConPatchError):
        _LOG.error("an error that was not expected: %s", told(error), exc_info=error)
    return False


RETRY_BUSY: dict[str, Any] = {
    "retries": 5,
    "retry_delay_seconds": [2, 5, 10, 20, 30],
    "retry_condition_fn": is_busy,
}
# Each time MLflow's own client has already tried for four minutes.
RETRY_REGISTRY: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [60, 300, 900],
    "retry_condition_fn": retry,
}
