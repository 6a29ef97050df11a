"""A flow that was killed while it held a slot does not block the next one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_HOLD = """
import sys, time
from flows import slots
from prefect import flow

@flow
def hold(seconds: float):
    slots.create_slots(slots.DVC)
    with slots.hold(slots.DVC):
        print("held", flush=True)
        time.sleep(seconds)

hold(float(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.server
def test_the_slot_of_a_killed_flow_is_taken_back_when_its_lease_ends(tmp_path: Path) -> None:
    first = _start(tmp_path, seconds=600)
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (lease,) = (tmp_path / "concurrency_leases").glob("*-*.json")
    second = _start(tmp_path, seconds=0)
    time.sleep(1)
    content = json.loads(lease.read_text())
    lease.write_text(json.dumps({**content, "expiration": "2001-01-01T00:00:00+00:00"}))
    printed, _ = second.communicate(timeout=240)
    assert printed == b"held\n"
    assert second.returncode == 0


def _start(home: Path, seconds: float) -> subprocess.Popen[bytes]:
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(seconds)],
        cwd=ROOT,
        env={**environment, "PREFECT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
