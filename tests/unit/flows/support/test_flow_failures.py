"""What Prefect logs of a failure: each cause once, a traceback where nobody expected the error."""

import logging

import pytest
from prefect.client.schemas.objects import State, StateType

from flows.support import flow_failures, stage_tasks
from flows.support.flow_failures import OneMessage, told
from flows.support.retries import is_busy, retry
from flows.support.stage_tasks import TRY_LIMITS, TryLimits, stage_task
from reconpatch.errors import DataError, ReConPatchError
from reconpatch.settings import Settings
from tasks.running.dvc_commit import DvcBusyError
from tasks.running.stage_folders import Job

OURS, OTHER = DataError("a.png: is cut short"), KeyError("nut")


def _record(name: str, text: str, error: Exception | None = None):
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord(f"prefect.{name}", logging.ERROR, __file__, 1, text, (), info)


def test_an_error_for_people_comes_without_its_traceback_and_another_with_one() -> None:
    one = OneMessage()
    for name in ("flow_runs", "task_runs"):
        assert not one.filter(_record(name, "Encountered exception", OURS))
        assert one.filter(_record(name, "Encountered exception", OTHER))
    one.ended_by_caller = True  # Python prints it
    assert not one.filter(_record("flow_runs", "Encountered exception", OTHER))
    assert one.filter(_record("task_runs", "Encountered exception", OTHER))


def test_the_last_message_of_a_flow_alone_holds_the_cause() -> None:
    one = OneMessage()

    def shown(name: str, state: str = "Failed") -> str:
        record = _record(name, f"Finished in state {state}('a.png: is cut short')")
        assert one.filter(record)
        return record.getMessage()

    assert shown("task_runs") == "Finished in state Failed; the end of the flow says why"
    assert "a.png" in shown("flow_runs")  # nobody prints it after that
    one.ended_by_caller = True
    assert "a.png" not in shown("flow_runs")
    assert "a.png" in shown("flow_runs", "Completed")


def test_prefects_loggers_have_the_filter() -> None:
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        assert flow_failures.ONE_MESSAGE in logging.getLogger(name).filters


def test_an_error_is_told_with_its_kind_where_it_was_not_written_for_people() -> None:
    assert (told(OURS), told(OTHER)) == ("a.png: is cut short", "KeyError: 'nut'")


@pytest.mark.parametrize("condition", [retry, is_busy])
def test_an_unexpected_error_that_is_not_tried_again_leaves_its_traceback(condition, caplog) -> None:
    with caplog.at_level(logging.ERROR, logger="tasks"):
        for error in (OURS, OTHER):
            assert not condition(None, None, State(type=StateType.FAILED, data=error))
    (record,) = caplog.records
    assert record.exc_info[1] is OTHER
    assert "KeyError" in record.getMessage()
    assert is_busy(None, None, State(type=StateType.FAILED, data=DvcBusyError("locked")))


def test_a_stage_that_takes_too_long_is_ended_and_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(TRY_LIMITS, "validate", TryLimits(0, 0.05 / 3600))

    def hang(*_: object, **__: object) -> None:
        while True:
            pass

    monkeypatch.setattr(stage_tasks, "run_on_worker", hang)
    job = Job(Settings(), "nut", None, tmp_path, tmp_path)
    with pytest.raises(ReConPatchError, match=r"validate \(nut\): was not done within"):
        stage_task("validate").fn(job)
    assert stage_task("validate").timeout_seconds is None  # Prefect warns of it in every thread
