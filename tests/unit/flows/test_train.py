"""The steps at the end of a training: register, gate, record; each once, and a try is no candidate."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefect.states import Completed, Failed

from flows import train
from flows.support.flow_failures import FlowFailedError
from reconpatch.errors import ReConPatchError


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    (tmp_path / "params.yaml").write_text("pipeline:\n  categories: [nut]\n")
    done: list[str] = []
    evaluation = SimpleNamespace(stage="evaluate", ran=True)

    def step(name: str):
        return lambda *_, **__: done.append(name) or Completed(data=[])

    monkeypatch.setattr(train, "note_code", lambda _: None)
    monkeypatch.setattr(train, "promise_line", lambda *_: None)
    monkeypatch.setattr(train, "run_stages", lambda *_: done.append("stages") or ([evaluation], []))
    monkeypatch.setattr(train, "summarise", lambda _: [{"category": "nut"}])
    monkeypatch.setattr(train, "print_table", lambda *_: None)
    monkeypatch.setattr(train, "publish_table", lambda *_: done.append("summary"))
    monkeypatch.setattr(train, "register", step("register"))
    monkeypatch.setattr(train, "nominate", step("gate"))
    monkeypatch.setattr(train, "record", lambda *_: done.append("record") or [])
    monkeypatch.setattr(train, "get_run_logger", lambda: logging.getLogger("test"))
    return done


def test_registration_gate_and_record_follow_the_stages(steps: list[str], tmp_path: Path) -> None:
    train.train.fn(project=tmp_path)
    assert steps == ["stages", "summary", "register", "gate", "record"]


def test_a_run_beside_params_yaml_is_no_candidate_and_not_recorded(steps: list[str], tmp_path: Path) -> None:
    train.train.fn(overrides=["seed=4"], project=tmp_path)
    assert steps == ["stages", "summary", "register"]


def test_what_is_not_registered_does_not_go_through_the_gate(
    steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "register", lambda *_, **__: Failed(data=ReConPatchError("no server")))
    with pytest.raises(FlowFailedError, match="register: no server"):
        train.train.fn(project=tmp_path)
    assert steps == ["stages", "summary", "record"]
