from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flows.support import retrain_notice
from flows.support.retrain_notice import Outcome
from reconpatch.settings import parse_settings
from tasks.operations.image_changes import ImageChanges
from tasks.registry.gate_rules import FAILED, PASSED, GateReport, RuleResult
from tasks.registry.registered_model import RegisteredModel

CHANGES = ImageChanges("nut", None, 3, 0)


def _model(version: str, *aliases: str, gate: GateReport | None = None) -> RegisteredModel:
    return RegisteredModel("reconpatch-tiny-nut", version, "nut", "b", "run", True, aliases, gate)


def test_a_refused_candidate_is_named_with_the_rule_that_it_broke():
    results = (RuleResult("rule 1", PASSED, "fine"), RuleResult("aupro at least 0.8", FAILED, "0.2000"))
    refused = _model("7", gate=GateReport(results, "1", "set", "policy"))
    outcome = Outcome.of(CHANGES, [_model("6"), refused])
    assert (outcome.decision, outcome.version) == ("refused", "7")
    assert "refused by the gate (aupro at least 0.8: 0.2000)" in outcome.note


def test_a_challenger_awaits_a_person_and_a_champion_does_not():
    assert Outcome.of(CHANGES, [_model("2", "challenger")]).decision == "awaiting approval"
    assert Outcome.of(CHANGES, [_model("2", "challenger", "champion")]).decision == "champion"
    assert Outcome.of(CHANGES, []).decision == "failed"


def test_the_candidates_heat_maps_are_shown_with_the_verdict_and_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tables, pictures = [], []
    monkeypatch.setattr(retrain_notice, "create_table_artifact", lambda **given: tables.append(given))
    monkeypatch.setattr(retrain_notice, "publish_picture", lambda *given: pictures.append(given))
    drawn = Path("heat_maps.png")
    shown = Outcome.of(CHANGES, [replace(_model("2", "challenger"), heat_maps=drawn)])
    untested = replace(Outcome.of(CHANGES, [_model("2", "challenger")]), category="bolt")
    retrain_notice.publish([shown, untested], [], parse_settings({"pipeline": {"dataset": "line_3"}}))
    assert pictures == [("retrain-heat-maps-line-3-nut", drawn, str(shown))]
    assert [row["category"] for row in tables[0]["table"]] == ["nut", "bolt"]
    assert all("heat_maps" not in row for row in tables[0]["table"])


@pytest.mark.parametrize("place", ["settings", "environment"])
@pytest.mark.parametrize(
    "answer", [httpx.Response(404), httpx.ConnectError("no"), httpx.InvalidURL("SECRET")]
)
def test_a_webhook_that_fails_is_logged_without_its_path(
    place: str,
    answer: httpx.Response | Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url, told = "https://hooks.example/services/SECRET", []

    def post(url: str, **_: object) -> httpx.Response:
        told.append(url)
        if isinstance(answer, Exception):
            raise answer
        answer.request = httpx.Request("POST", url)
        return answer

    monkeypatch.setattr(retrain_notice, "create_table_artifact", lambda **_: None)
    monkeypatch.setattr(retrain_notice.httpx, "post", post)
    if place == "environment":
        monkeypatch.setenv("RECONPATCH_WEBHOOK", url)
    settings = parse_settings({"retrain": {"webhook": url if place == "settings" else "https://other"}})
    with caplog.at_level("WARNING"):
        retrain_notice.publish([Outcome.of(CHANGES, [])], [], settings)
    assert told == [url]
    assert "https://hooks.example" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_webhook_that_is_no_address_hides_no_failure_and_failures_alone_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retrain_notice, "create_table_artifact", lambda **_: None)
    settings = parse_settings({"retrain": {"webhook": "http://127.0.0.1:80a/hook"}})
    retrain_notice.publish([Outcome.failed("nut")], ["nut: no champion"], settings)

    posted = []
    answer = httpx.Response(200, request=httpx.Request("POST", "http://hook"))
    monkeypatch.setattr(httpx, "post", lambda *_, json, **__: posted.append(json) or answer)
    quiet = Outcome.nothing_new(CHANGES)
    retrain_notice.publish([quiet], [], settings)
    retrain_notice.publish([quiet], ["the commit failed"], settings)
    assert [body["failures"] for body in posted] == [["the commit failed"]]
