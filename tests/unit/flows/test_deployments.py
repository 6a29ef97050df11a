"""prefect.yaml says what runs when, and nothing in it names a flow or a parameter that is not there."""

import errno
import importlib
import zoneinfo
from datetime import timedelta

import pytest
import yaml

from flows.serve import read_deployments
from flows.support.heartbeats import KILLED, note_process
from flows.support.retries import may_pass
from flows.support.stage_tasks import TRY_LIMITS
from reconpatch.errors import DataError
from tasks.running.stage_folders import PROJECT
from tasks.running.stage_table import STAGES, VARIANTS


@pytest.fixture(scope="module")
def deployments():
    return {one.name: one for one in read_deployments()}


def test_every_deployment_names_a_flow_its_parameters_a_limit_and_tags(deployments) -> None:
    for one in deployments.values():
        assert set(one.parameters) <= set(one._parameter_openapi_schema.properties)
        assert one.concurrency_limit >= 1
        assert one.tags
        assert one.schedules or one.triggers
        for schedule in one.schedules:
            zoneinfo.ZoneInfo(schedule.schedule.timezone)


def test_arrivals_retrain_their_category_as_a_text_whatever_it_looks_like(deployments) -> None:
    (trigger,) = deployments["on-arrival"].triggers
    assert trigger.expect == {"reconpatch.ingest.completed"}
    (category,) = trigger.parameters["categories"]
    assert category == {"__prefect_kind": "jinja", "template": "{{ event.payload.category }}"}


@pytest.mark.parametrize(("name", "flow"), [("inbox", "ingest"), ("nightly", "retrain")])
def test_what_a_kill_interrupted_is_begun_anew_and_not_without_end(deployments, name: str, flow: str) -> None:
    trigger = deployments[name].triggers[-1]
    assert trigger.expect == {"prefect.flow-run.Crashed", KILLED}
    assert trigger.match_related.root == {
        "prefect.resource.role": "flow",
        "prefect.resource.name": flow,
    }
    assert trigger.within >= timedelta(minutes=5)


def test_both_ways_to_deploy_read_one_file_and_one_pool(deployments) -> None:
    stated = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]
    assert [one["name"] for one in stated] == list(deployments)
    assert {one["work_pool"]["name"] for one in stated} == {"reconpatch"}


def test_every_flow_says_which_process_runs_it() -> None:
    for one in yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]:
        path, _, name = one["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert note_process in flow.on_running_hooks


def test_every_stage_has_limits() -> None:
    assert set(TRY_LIMITS) == {*STAGES, *VARIANTS}


def test_a_file_server_that_is_away_is_tried_again_and_a_full_disk_is_not() -> None:
    def told(number: int) -> DataError:
        try:
            try:
                raise OSError(number, "x")
            except OSError:
                raise DataError("image.png: cannot be read") from None
        except DataError as error:
            return error

    assert may_pass(told(errno.ESTALE))
    assert may_pass(OSError(errno.EIO, "x"))
    assert not may_pass(told(errno.ENOSPC))
    assert not may_pass(DataError("x"))
