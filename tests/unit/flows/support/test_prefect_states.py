"""How a flow ends, and what of a failed task is told."""

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.support.prefect_states import completed, failure_of
from reconpatch.errors import DataError


def test_a_failed_task_is_told_by_its_name_and_its_error() -> None:
    assert failure_of("train brick", Failed(data=DataError("no images"))) == ["train brick: no images"]
    assert failure_of("train brick", Completed()) == []


def test_a_flow_ends_in_a_state_with_its_own_message_that_holds_the_result() -> None:
    state: object = completed("two numbers", [1, 2])
    assert isinstance(state, State)
    assert state.is_completed()
    assert (state.message, state.data) == ("two numbers", [1, 2])
