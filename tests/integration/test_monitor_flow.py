"""The flow that checks for drift: events by policy, artifacts when there was a check, silence when not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from PIL import Image
from prefect.client.orchestration import get_client

import tasks.operations.drift_monitor
from flows import monitor as flow
from flows.support.flow_failures import FlowFailedError
from reconpatch.errors import DataError
from reconpatch.line.monitoring.drift_checks import DriftCheck
from reconpatch.settings import Settings
from tasks.operations.drift_monitor import Checked

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("prefect_server")]
NOW = datetime(2026, 11, 25, 10, tzinfo=UTC)
CHECK = DriftCheck(
    NOW, NOW - timedelta(hours=2), NOW, "reconpatch-demo-nut/3", 40, 90, 0.01, 0.001, {"score": 0.002}, 0.1
)


@pytest.fixture
def project(tmp_path):
    values = Settings().model_dump(mode="json", by_alias=True)
    values["pipeline"] |= {"dataset": "demo_1", "categories": ["nut", "bolt"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    return tmp_path


def _artifacts() -> set[str]:
    with get_client(sync_client=True) as client:
        return {str(one.key) for one in client.read_artifacts()}


@pytest.mark.parametrize("policy", ["tell", "retrain"])
def test_an_alarm_is_an_event_and_by_policy_starts_a_retrain(project, monkeypatch, policy) -> None:
    values = yaml.safe_load((project / "params.yaml").read_text())
    values["monitor"]["on_alarm"] = policy
    (project / "params.yaml").write_text(yaml.safe_dump(values))
    events: list[dict] = []
    monkeypatch.setattr(flow, "emit_event", lambda **event: events.append(event))

    def check(_settings, category, _project, *, now, announce):
        assert now.tzinfo is not None
        if category == "bolt":
            return Checked(category, "no drift", replace(CHECK, p_value=0.5), project / "picture.png")
        found = Checked(category, "drifted", CHECK, project / "picture.png")
        announce(found)
        return found

    monkeypatch.setattr(flow, "check_drift", check)
    state = flow.monitor(project=project, return_state=True)
    assert state.is_completed()
    assert state.message == "nut: drifted; bolt: no drift"
    wanted = ["reconpatch.drift.alarm", "reconpatch.drift.retrain"]
    assert [event["event"] for event in events] == wanted[: 2 if policy == "retrain" else 1]
    assert len({event["id"] for event in events}) == len(events)
    assert {event["resource"]["prefect.resource.id"] for event in events} == {"reconpatch.dataset.demo_1.nut"}
    assert events[0]["payload"]["category"] == "nut"
    assert {"drift-demo-1", "drift-plots-demo-1-nut", "drift-plots-demo-1-bolt"} <= _artifacts()


def test_what_cannot_be_checked_fails_the_flow_and_stops_no_other_category(project, monkeypatch) -> None:
    asked = []

    def check(_settings, category, *_, **__):
        asked.append(category)
        if category == "nut":
            raise DataError("nut: keeps no held-out images")
        return Checked(category, "nothing to check")

    monkeypatch.setattr(flow, "check_drift", check)
    with pytest.raises(FlowFailedError, match="keeps no held-out images"):
        flow.monitor(project=project)
    assert asked == ["nut", "bolt"]


def test_without_a_log_it_asks_no_registry_and_leaves_nothing(project, monkeypatch) -> None:
    before = _artifacts()
    monkeypatch.setattr(
        tasks.operations.drift_monitor, "find_champion", lambda *_: pytest.fail("the registry was asked")
    )
    outcomes = flow.monitor(["nut"], project)
    assert [str(one) for one in outcomes] == ["nut: nothing to check: no prediction is logged in predictions"]
    assert _artifacts() == before
    assert not (project / "drift").exists()
