"""A Python without the project's packages, as after a forgotten `activate`."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    "module", ["flows.train", "flows.promote", "tasks.registry.register", "tasks.stages.validate"]
)
def test_one_line_says_what_to_do(module: str) -> None:
    command = [sys.executable, "-S", "-m", module]  # -S: no site-packages
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "source .venv/bin/activate" in line
