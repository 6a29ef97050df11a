"""How the commands of tasks end."""

from pathlib import Path
from types import ModuleType

import pytest

from reconpatch.errors import ReConPatchError, SettingsError
from tasks.operations import ablate, tune
from tasks.registry import register
from tasks.running.typer_commands import run_command


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (SettingsError("seed: wrong"), 2, "error: seed: wrong\n"),
        (ReConPatchError("no disk"), "toy failed: no disk", ""),
    ],
)
def test_an_error_is_one_line_and_the_exit_status(
    capsys: pytest.CaptureFixture[str], error: ReConPatchError, status: object, told: str
) -> None:
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as left:
        run_command(command, "toy", [])
    assert left.value.code == status
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        (tune, [], "--category"),
        (tune, ["--category", "nut", "--objective", "test_auroc"], "synthetic_image_auroc"),
        (tune, ["--category", "nut", "--set", "sed=1"], "did you mean `seed`"),
        (ablate, ["--study", "table9"], "coreset"),
        (ablate, ["--seed", "one"], "integer"),
        (register, ["--params"], "--params"),
    ],
)
def test_wrong_usage_has_status_2_and_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], command: ModuleType, arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as wrong:
        run_command(command.main, "toy", arguments)
    assert wrong.value.code == 2
    assert told in capsys.readouterr().err


def test_without_a_finished_evaluation_registration_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "PROJECT", tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 3\n")
    with pytest.raises(SystemExit, match="register failed: no finished evaluation"):
        run_command(register.main, "register", [])


def test_the_options_of_an_ablation_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def run(_: object, **named: object) -> None:
        asked.update(named)
        raise ReConPatchError("seen")

    monkeypatch.setattr(ablate, "run_ablation", run)
    with pytest.raises(SystemExit, match="ablate failed: seen"):
        run_command(ablate.main, "ablate", ["--study", "coreset", "--seed", "1", "--seed", "2"])
    assert asked == {"studies": ["coreset"], "categories": None, "seeds": [1, 2]}
