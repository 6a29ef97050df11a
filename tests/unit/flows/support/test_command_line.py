"""How the command lines of flows end."""

from pathlib import Path
from types import ModuleType

import pytest

from flows import batch, housekeeping, promote
from flows.support.command_line import run_by_category, run_with_params
from flows.support.flow_failures import FlowFailedError, raise_failures
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from tasks.running.stage_folders import PARAMS, PROJECT


def test_the_command_prints_a_line_an_outcome_and_tells_failures_by_its_status(capsys) -> None:
    name = load_settings(PROJECT / PARAMS).pipeline.categories[0]
    run_by_category("toy", "A toy.", lambda wanted: [*wanted, "x"], ["--category", name], show=str.upper)
    assert capsys.readouterr().out == f"{name.upper()}\nX\n"

    def broken(_: object) -> list[str]:
        raise ReConPatchError("no disk")

    with pytest.raises(SystemExit, match="toy failed: no disk"):
        run_by_category("toy", "A toy.", broken, [])
    with pytest.raises(SystemExit) as wrong:
        run_by_category("toy", "A toy.", broken, ["--category", "nope"])
    assert wrong.value.code == 2
    assert "category nope" in capsys.readouterr().err


def test_parameters_are_checked_before_the_flow_and_every_failure_is_told(capsys, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("seed: 3\n")
    asked = []
    flow = lambda *given, **named: asked.append((given, named)) or "done"  # noqa: E731
    assert run_with_params("toy", "A toy.", flow, ["--params", str(file), "--set", "seed=4"]) == "done"
    assert run_with_params("toy", "A toy.", flow, ["--preset", "lite0"], presets=True) == "done"
    assert asked == [((file, ["seed=4"]), {}), ((None, []), {"preset": "lite0"})]

    with pytest.raises(SystemExit) as wrong:
        run_with_params("toy", "A toy.", flow, ["--set", "sed=4"])
    assert wrong.value.code == 2
    assert "did you mean `seed`" in capsys.readouterr().err
    assert len(asked) == 2
    with pytest.raises(SystemExit, match="did not finish:\nbrick: no disk\ngrass: no disk"):
        run_with_params("toy", "A toy.", lambda *_: raise_failures(["brick: no disk", "grass: no disk"]), [])


def test_a_flow_without_failures_goes_on() -> None:
    raise_failures([])
    with pytest.raises(FlowFailedError, match="one"):
        raise_failures(["one"])


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (promote, ["--model", "reconpatch-demo-nut", "--log"]),
        (promote, ["--watch"]),
        (promote, ["--model", "reconpatch-demo-nut", "--version", "1", "--why", "better"]),
        (batch, ["images", "--model", "model"]),
        (housekeeping, []),
    ],
)
def test_wrong_parameters_are_wrong_usage_and_start_no_flow(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: ModuleType, arguments: list[str]
) -> None:
    (tmp_path / PARAMS).write_text("sed: 3\n")
    monkeypatch.setattr("flows.support.command_line.PROJECT", tmp_path)
    for flow in {"promote", "batch", "housekeeping"} & vars(command).keys():
        monkeypatch.setattr(command, flow, lambda *_: pytest.fail("a flow starts a server"))
    with pytest.raises(SystemExit) as wrong:
        command.main(arguments)
    assert wrong.value.code == 2
    assert "did you mean `seed`" in capsys.readouterr().err


def test_an_error_that_a_flow_did_not_collect_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise SettingsError("params changed meanwhile")

    monkeypatch.setattr(batch, "batch", broken)
    with pytest.raises(SystemExit, match="batch failed: params changed meanwhile"):
        batch.main(["images", "--model", "model"])
    with pytest.raises(SystemExit, match="toy failed: params changed meanwhile"):
        run_with_params("toy", "A toy.", broken, [])
