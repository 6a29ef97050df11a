"""How the command lines of flows end."""

from pathlib import Path
from types import ModuleType

import pytest

from flows import batch, evaluate, housekeeping, ingest, monitor, promote, retrain, train
from flows.support.flow_failures import FlowFailedError, raise_failures
from reconpatch.errors import ReConPatchError, SettingsError
from reconpatch.settings import load_settings
from tasks.running.stage_folders import PARAMS, PROJECT
from tasks.running.typer_commands import run_command

FLOWS = {
    batch: "batch",
    evaluate: "evaluate",
    housekeeping: "housekeeping",
    ingest: "ingest_all",
    monitor: "monitor",
    promote: "promote",
    retrain: "retrain",
    train: "train",
}


@pytest.fixture(autouse=True)
def _no_flow_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, flow in FLOWS.items():
        monkeypatch.setattr(module, flow, lambda *_: pytest.fail("a flow starts a server"))


def test_a_line_is_printed_for_each_outcome(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    name = load_settings(PROJECT / PARAMS).pipeline.categories[0]
    monkeypatch.setattr(retrain, "retrain", lambda wanted: [*wanted, "x"])
    run_command(retrain.main, "retrain", ["--category", name])
    assert capsys.readouterr().out == f"{name}\nx\n"


@pytest.mark.parametrize("command", [evaluate, monitor, retrain])
def test_a_category_that_is_not_there_is_wrong_usage_and_starts_no_flow(capsys, command: ModuleType) -> None:
    with pytest.raises(SystemExit) as wrong:
        run_command(command.main, "toy", ["--category", "nope"])
    assert wrong.value.code == 2
    assert "category nope" in capsys.readouterr().err


def test_the_options_of_training_reach_the_flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("seed: 3\n")
    asked = []
    monkeypatch.setattr(train, "train", lambda *given, **named: asked.append((given, named)))
    run_command(train.main, "train", ["--params", str(file), "--set", "seed=4", "--set", "threads=1"])
    run_command(train.main, "train", ["--preset", "lite0"])
    assert asked == [((file, ["seed=4", "threads=1"]), {"preset": None}), ((None, ()), {"preset": "lite0"})]


def test_the_options_of_a_batch_reach_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def score(*given: object) -> None:
        asked.append(given)
        raise ReConPatchError("seen")

    monkeypatch.setattr(batch, "batch", score)
    for more in ([], ["--maps", "--no-log", "--output", "out", "--category", "nut"]):
        with pytest.raises(SystemExit, match="batch failed: seen"):
            run_command(batch.main, "batch", ["images", "--model", "model", *more])
    assert asked == [
        ("model", Path("images"), None, None, False, True),
        ("model", Path("images"), Path("out"), "nut", True, False),
    ]


def test_every_failure_of_a_flow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "ingest_all", lambda *_: raise_failures(["brick: no disk", "grass: no disk"]))
    with pytest.raises(SystemExit, match="did not finish:\nbrick: no disk\ngrass: no disk"):
        run_command(ingest.main, "ingest", [])


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
        (train, []),
        (ingest, ["--set", "seed=1"]),
        (monitor, []),
    ],
)
def test_wrong_parameters_are_wrong_usage_and_start_no_flow(
    capsys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: ModuleType, arguments: list[str]
) -> None:
    (tmp_path / PARAMS).write_text("sed: 3\n")
    monkeypatch.setattr("flows.support.command_line.PROJECT", tmp_path)
    with pytest.raises(SystemExit) as wrong:
        run_command(command.main, "toy", arguments)
    assert wrong.value.code == 2
    assert "did you mean `seed`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "nut"],
        ["--model", "nut", "--version", "1"],
        ["--model", "nut", "--why", "better"],
        ["--model", "nut", "--why", "better", "--version", "1", "--rollback"],
    ],
)
def test_a_promotion_that_is_not_said_in_full_is_wrong_usage(capsys, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as wrong:
        run_command(promote.main, "promote", arguments)
    assert wrong.value.code == 2
    assert "give --" in capsys.readouterr().err


def test_an_error_that_a_flow_did_not_collect_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise SettingsError("params changed meanwhile")

    monkeypatch.setattr(batch, "batch", broken)
    monkeypatch.setattr(ingest, "ingest_all", broken)
    with pytest.raises(SystemExit, match="batch failed: params changed meanwhile"):
        run_command(batch.main, "batch", ["images", "--model", "model"])
    with pytest.raises(SystemExit, match="ingest failed: params changed meanwhile"):
        run_command(ingest.main, "ingest", [])


@pytest.mark.parametrize("command", list(FLOWS))
def test_help_says_what_the_command_does_and_how_it_ends(capsys, command: ModuleType) -> None:
    run_command(command.main, "toy", ["--help"])
    said = capsys.readouterr().out
    assert command.main.__doc__.splitlines()[0] in " ".join(said.split())
    assert "Exit status: 0 done, 1" in said
