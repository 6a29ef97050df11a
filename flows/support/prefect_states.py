"""What a task's last state says, and the state that a flow ends in."""

from typing import Any, TypeVar, cast

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.support.flow_failures import told

Result = TypeVar("Result")


def failure_of(what: str, state: State[Any]) -> list[str]:
    """The message of a failed or crashed task, or nothing."""
    if not (state.is_failed() or state.is_crashed()):
        return []
    return [f"{what}: {told(state.result(raise_on_failure=False))}"]


def completed(message: str, result: Result) -> Result:
    """What a flow returns to end with a message of its own: a state, of which its caller gets the result.

    Prefect takes the result out of the state; its types do not say so.
    """
    return cast("Result", Completed(message=message, data=result))
