"""The comparison of a GPU with the CPU, tried on the CPU: it passes what is equal and finds what is not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import gpu, gpu_steps
from benchmarks.gpu_steps import (
    CORESET,
    CPU,
    FEATURES,
    Check,
    Step,
    largest_difference,
    relative_difference,
    share_different,
)

SMALL = [
    *("--count", "4", "--rounds", "1", "--set", "features.image_size=64", "--set", "modulation.steps=3"),
    *("--set", "coreset.ratio=0.1"),
]
VALUES = np.arange(1, 5, dtype=np.float32)


@pytest.mark.parametrize("difference", [relative_difference, largest_difference, share_different])
def test_equal_values_differ_by_nothing_and_others_by_how_much(
    difference: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    assert difference(VALUES, VALUES.copy()) == 0
    planted = VALUES.copy()
    planted[3] += 0.4
    assert difference(VALUES, planted) == pytest.approx(
        {
            relative_difference: 0.4 / np.sqrt(30),
            largest_difference: 0.4 / 4,
            share_different: 1 / 4,
        }[difference]
    )
    assert difference(VALUES, VALUES[:3]) == np.inf


@pytest.mark.parametrize("difference", [relative_difference, largest_difference])
def test_what_is_no_number_is_beyond_every_tolerance(
    difference: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    assert difference(VALUES, np.array([1, 2, 3, np.nan], np.float32)) == np.inf


def _step(found: np.ndarray, check: Check) -> Step:
    return Step("step", lambda _: {"it": found}, {"it": check}, reference=lambda _: {"it": VALUES})


@pytest.mark.parametrize(
    ("off", "check", "passes"),
    [(0.0, FEATURES, True), (1e-3, FEATURES, True), (0.1, FEATURES, False), (1e-3, CORESET, False)],
)
def test_a_planted_difference_is_found(off: float, check: Check, passes: bool) -> None:
    passed, (row,) = gpu.compare(_step(VALUES * (1 + off), check), torch.device("cpu"), 1)
    assert passed is passes
    assert row[3] == ("within" if passes else "BEYOND")


def test_a_step_that_fails_on_the_device_is_one_row() -> None:
    def fails(_: torch.device) -> gpu_steps.Results:
        raise RuntimeError("CUDA error:\nout of memory")

    step = Step("search", fails, {"it": FEATURES}, reference=lambda _: {"it": VALUES})
    passed, (row,) = gpu.compare(step, CPU, 1)
    assert not passed
    assert row[3] == "FAILED: RuntimeError: CUDA error: out of memory"


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main([]) == 0
    assert "finds no GPU" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cuda"])
    assert "no usable CUDA device" in capsys.readouterr().err


def test_the_cpu_agrees_with_itself_and_the_table_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = gpu_steps.write_synthetic(tmp_path / "images", 5)
    assert [image.read_bytes() for image in images] == [
        image.read_bytes() for image in gpu_steps.write_synthetic(tmp_path / "again", 5)
    ]
    out = tmp_path / "gpu.md"
    assert gpu.main(["--device", "cpu", "--images", str(images[0].parent), "--out", str(out), *SMALL]) == 0
    rows = out.read_text(encoding="utf-8").split("\n\n")[1].splitlines()[2:]
    cells = {row.split(" | ")[0].strip("| "): row.split(" | ")[1] for row in rows}
    assert len(cells) == 8
    rounded = {name for name, difference in cells.items() if float(difference) > 0}
    assert rounded == {"features in bfloat16: patch features, relative difference"}
    assert "within" in capsys.readouterr().out


def test_the_status_says_that_a_step_lies_beyond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [_step(VALUES, CORESET), _step(VALUES + 1, FEATURES)]
    monkeypatch.setattr(gpu, "make_steps", lambda *_: steps)
    out = tmp_path / "gpu.md"
    assert gpu.main(["--device", "cpu", "--out", str(out), *SMALL]) == 1
    assert [row.split(" | ")[3] for row in out.read_text(encoding="utf-8").splitlines()[4:]] == [
        "within",
        "BEYOND",
    ]
