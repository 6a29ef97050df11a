"""The watcher outlives whatever it meets."""

from pathlib import Path

import pytest

from flows import promote
from reconpatch.errors import ReConPatchError
from reconpatch.settings import Settings


def test_a_model_that_cannot_be_watched_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reconcile(model: str, **_: object) -> list[str]:
        if model == "odd":
            raise TypeError("unexpected keyword 'schema'")
        if model == "busy":
            raise ReConPatchError("another change is going on")
        return [f"{model} moved"]

    monkeypatch.setattr(promote, "promoted_models", lambda *_: ["odd", "busy", "nut"])
    monkeypatch.setattr(promote, "reconcile", reconcile)
    assert promote.watch_once(Settings(), tmp_path) == ["nut moved"]
    told = capsys.readouterr().err
    assert told == "odd: TypeError: unexpected keyword 'schema'\nbusy: another change is going on\n"


def test_a_look_that_fails_is_told_and_the_next_one_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[float] = []

    def broken(*_: object) -> list[str]:
        raise RuntimeError("no route to host")

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(promote, "promoted_models", broken)
    monkeypatch.setattr(promote.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        promote.watch(3.0, Settings(), tmp_path)
    assert looks == [3.0, 3.0]
    assert capsys.readouterr().err == "RuntimeError: no route to host\n" * 2
