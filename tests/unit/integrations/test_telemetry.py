"""One list of switches, in force whichever command brings a tool in, and the same outside Python."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.support.environment import DEFAULTS
from reconpatch.integrations.telemetry import SWITCHES, switch_off

ROOT = Path(__file__).resolve().parents[3]
_MLFLOW = "from mlflow.telemetry.utils import is_telemetry_disabled; assert is_telemetry_disabled()"
_EXTRA = "from reconpatch.integrations.optional_packages import import_extra; import_extra({!r}, 'a test')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("statement", "asked"),
    [
        ("import tasks.registry.register", _MLFLOW),
        ("import tasks.stages.validate", ""),
        (_EXTRA.format("mlflow"), _MLFLOW),
        (_EXTRA.format("great_expectations"), ""),
    ],
)
def test_the_tools_find_their_telemetry_off(statement, asked):
    # MLflow is silent in CI and under pytest anyway: that must not answer for the switches.
    hidden = {*SWITCHES, "CI", "PYTEST_CURRENT_TEST"}
    bare = {name: value for name, value in os.environ.items() if name not in hidden}
    checks = f"import os; assert all(os.environ.get(n) == v for n, v in {SWITCHES!r}.items()), os.environ"
    code = f"{statement}\n{checks}\n{asked}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=bare, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_the_user_sets_stays(monkeypatch):
    monkeypatch.setenv("GX_ANALYTICS_ENABLED", "true")
    monkeypatch.delenv("DVC_NO_ANALYTICS", raising=False)
    switch_off()
    assert os.environ["GX_ANALYTICS_ENABLED"] == "true"
    assert os.environ["DVC_NO_ANALYTICS"] == "1"


def test_the_flows_set_every_switch():
    assert {name: DEFAULTS.get(name) for name in SWITCHES} == SWITCHES


def test_the_makefile_states_the_same_list():
    stated = dict(re.findall(r"^export (\w+) :=[ ]?(.*)$", (ROOT / "Makefile").read_text(), re.M))
    assert {name: stated.get(name) for name in SWITCHES} == SWITCHES


def test_the_environment_of_the_mlflow_server_states_those_that_mlflow_reads():
    stated = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / "mlflow" / "server.env").read_text(), re.M))
    read = {name: value for name, value in SWITCHES.items() if name.startswith(("DO_NOT", "MLFLOW"))}
    assert len(read) == 3
    assert {name: stated.get(name) for name in read} == read
