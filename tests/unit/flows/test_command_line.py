"""How the command lines of flows end."""

from pathlib import Path

import pytest

from flows.command_line import run_by_category, run_with_params
from flows.failures import FlowFailedError, raise_failures
from reconpatch.errors import ReConPatchError
from reconpatch.settings import load_settings
from tasks.job import PARAMS, PROJECT


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
