"""How a flow ends as failed: every failure in one message, after all that could be done was done."""

from collections.abc import Sequence

from reconpatch.errors import ReConPatchError


class FlowFailedError(ReConPatchError):
    """Something in the flow failed; the message holds every failure."""


def raise_failures(failures: Sequence[str]) -> None:
    """End the flow as failed where anything failed.

    Raises:
        FlowFailedError: there are failures.
    """
    if failures:
        raise FlowFailedError("the flow did not finish:\n" + "\n".join(failures))
