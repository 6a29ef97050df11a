"""The servers that make keeps in the foreground end together."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
# Stands for every program: a server with a worker in its process group, which notes both.
_SERVER = """#!/bin/bash
case "$*" in
  -c*) [ -e "$(dirname "$0")/answers" ]; exit ;;
esac
sleep 600 &
echo $$ $! > "$0.noted"
mv "$0.noted" "$0.running"
wait
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a target of the Makefile with programs that do nothing, and ends what is left."""
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "prefect", "mlflow"):
        (folder / name).write_text(_SERVER)
        (folder / name).chmod(0o755)
    (tmp_path / "venv" / ".ready").touch()
    started: list[subprocess.Popen[bytes]] = []

    def run(target: str) -> subprocess.Popen[bytes]:
        command = ["make", target, f"VENV={tmp_path / 'venv'}"]
        started.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True))
        return started[-1]

    yield run
    for make in started:
        if make.poll() is None:
            make.kill()
    for process in _running(tmp_path, 0):
        if _is_alive(process):
            os.kill(process, signal.SIGKILL)


def _running(folder: Path, servers: int) -> list[int]:
    """Process ids of at least so many servers and their workers, once all of them run."""
    noted = folder / "venv" / "bin"
    wait_for("the servers", lambda: len(list(noted.glob("*.running"))) >= servers)
    return [int(process) for file in noted.glob("*.running") for process in file.read_text().split()]


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _end(processes: list[int]) -> None:
    wait_for("the end of every server and worker", lambda: not any(map(_is_alive, processes)))


@pytest.mark.parametrize(("target", "servers"), [("serve-flows", 2), ("ui", 3)])
def test_told_to_end_make_ends_every_server_and_its_workers(
    start, tmp_path: Path, target: str, servers: int
) -> None:
    make = start(target)
    processes = _running(tmp_path, servers)
    make.send_signal(signal.SIGTERM)
    assert make.wait(PATIENCE) != 0
    _end(processes)


@pytest.mark.parametrize(("target", "servers", "dies"), [("serve-flows", 2, "python"), ("ui", 3, "mlflow")])
def test_none_stays_up_when_one_has_ended(
    start, tmp_path: Path, target: str, servers: int, dies: str
) -> None:
    make = start(target)
    processes = _running(tmp_path, servers)
    server, _worker = map(int, (tmp_path / f"venv/bin/{dies}.running").read_text().split())
    os.kill(server, signal.SIGKILL)
    assert make.wait(PATIENCE) != 0
    _end(processes)


def test_a_prefect_server_that_answers_is_used(start, tmp_path: Path) -> None:
    (tmp_path / "venv/bin/answers").touch()
    make = start("serve-flows")
    processes = _running(tmp_path, 1)
    assert make.poll() is None
    assert not (tmp_path / "venv/bin/prefect.running").exists()
    make.send_signal(signal.SIGTERM)
    make.wait(PATIENCE)
    _end(processes)


def test_servers_and_workers_get_what_the_flows_set_for_themselves() -> None:
    from flows.support.environment import DEFAULTS

    shared = ("PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY")
    hidden = {name: value for name, value in os.environ.items() if name not in shared}
    asked = ["make", "--no-print-directory", "--eval", "shown: ; @env", "shown"]
    shown = subprocess.run(asked, cwd=ROOT, env=hidden, capture_output=True, text=True, check=True).stdout
    assert {f"{name}={DEFAULTS[name]}" for name in shared} <= set(shown.splitlines())
