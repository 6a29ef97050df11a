"""How a flow fails: it does all the work that it can, then reports each cause once."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from reconpatch.errors import ReConPatchError

_FINISHED = re.compile(r"Finished in state (Failed|Crashed|TimedOut)\(")


class FlowFailedError(ReConPatchError):
    """Something in the flow failed; the message holds every failure."""


def raise_failures(failures: Sequence[str]) -> None:
    """End the flow as failed where anything failed.

    Raises:
        FlowFailedError: there are failures.
    """
    if failures:
        raise FlowFailedError("the flow did not finish:\n" + "\n".join(failures))


def told(error: BaseException) -> str:
    """An error for people: with its kind where its text was not written for them."""
    return str(error) if isinstance(error, ReConPatchError) else f"{type(error).__name__}: {error}"


class OneMessage(logging.Filter):
    """Of what Prefect logs of a failure, what says it for the first time.

    The flow's last message holds every cause, so that of a task names its state alone. Errors that were
    written for people come without a traceback; of others the first one stays.

    Attributes:
        ended_by_caller: whether the caller of the flow (or Python, as a traceback) prints its error.
    """

    def __init__(self) -> None:
        """Without a caller who prints."""
        super().__init__()
        self.ended_by_caller = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record of Prefect's runs is shown and kept; may shorten it."""
        of_flow = record.name == "prefect.flow_runs"
        if record.exc_info:
            ours = isinstance(record.exc_info[1], ReConPatchError)
            return not (ours or (of_flow and self.ended_by_caller))
        finished = _FINISHED.match(record.getMessage())
        if finished and (self.ended_by_caller or not of_flow):
            record.msg, record.args = f"Finished in state {finished[1]}; the end of the flow says why", ()
        return True


ONE_MESSAGE = OneMessage()


def tell_once() -> None:
    """Make Prefect's loggers of runs tell a failure once, in this process."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(ONE_MESSAGE)


@contextmanager
def ended_by_caller() -> Iterator[None]:
    """Run a flow whose caller prints its error."""
    ONE_MESSAGE.ended_by_caller = True
    try:
        yield
    finally:
        ONE_MESSAGE.ended_by_caller = False
