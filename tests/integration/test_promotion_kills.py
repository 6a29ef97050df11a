"""Processes that promote and roll back are killed at random; what is left must always be one whole story."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from finished_runs import fit_detector, write_images
from mlflow import MlflowClient

from reconpatch import ReConPatch
from reconpatch.settings import Settings
from tasks.registry.champion_history import champion_of, former_champions
from tasks.registry.gate_policy import POLICY
from tasks.registry.promotion import read_log, reconcile
from tasks.running.stage_folders import PROJECT

NAME = "reconpatch-tiny-nut"
SOAK = os.environ.get("RECONPATCH_SOAK") == "1"
ROUNDS, KILLS = (10, 20) if SOAK else (1, 5)  # 200 kills whole
VERSIONS = 4

# Imports once, then does each order in a fork of its own: "VERSION" or "rollback", answered by the
# fork's process id when the store is open and the next thing it does is to promote.
_WORKER = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
from reconpatch.errors import ReConPatchError
from reconpatch.settings import Settings
from tasks.registry.mlflow_store import open_client
from tasks.registry.promotion import promote_version, roll_back
place = {"settings": Settings(), "project": Path(sys.argv[1])}
model = sys.argv[2]
print("ready", flush=True)
for line in sys.stdin:
    order = line.strip()
    if os.fork() == 0:
        open_client(**place).get_registered_model(model)
        print(os.getpid(), flush=True)
        try:
            if order == "rollback":
                roll_back(model, "kill test", **place)
            else:
                promote_version(model, order, "kill test", **place)
        except ReConPatchError:
            pass
        os._exit(0)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_kills_leave_one_champion_and_a_log_that_agrees(
    mlflow_template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(mlflow_template, tmp_path / "mlflow.db")
    (tmp_path / "mlflow").mkdir()
    shutil.copy(PROJECT / POLICY, tmp_path / POLICY)
    place = {"settings": Settings(), "project": tmp_path}
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}", f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model(NAME)
    detector = fit_detector(write_images(tmp_path / "nut"), tmp_path / "model")
    for _ in range(VERSIONS):
        client.create_model_version(NAME, str(detector))
    client.set_registered_model_alias(NAME, "champion", "1")
    reconcile(NAME, **place)

    rng = random.Random(seed)  # noqa: S311
    command = [sys.executable, "-c", _WORKER, str(tmp_path), NAME]
    interrupted, found = 0, Counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "ready\n"

        def order(what: str | None = None) -> int:
            now = str(client.get_registered_model(NAME).aliases["champion"])
            others = [str(one) for one in range(1, VERSIONS + 1) if str(one) != now]
            worker.stdin.write(f"{what or rng.choice([*others, 'rollback'])}\n")
            worker.stdin.flush()
            return int(worker.stdout.readline())

        # The kills spread over as long as this machine takes for one; one that comes too late is repeated.
        spans = []
        for version in ("2", "3"):
            undisturbed, start = order(version), time.monotonic()
            _settled(undisturbed)
            spans.append(time.monotonic() - start)
        tries = 0
        while interrupted < KILLS:
            tries += 1
            assert tries <= 10 * KILLS, "the kills came too late to interrupt anything"
            before = len(read_log(NAME, **place))
            victim = order()
            time.sleep(rng.uniform(0, max(spans)))
            try:
                os.kill(victim, signal.SIGKILL)
                interrupted += 1
            except ProcessLookupError:
                pass
            _settled(victim)
            left = read_log(NAME, **place)
            found["nothing written" if len(left) == before else f"an event that is {left[-1].status}"] += 1
            reconcile(NAME, **place)
            entries = read_log(NAME, **place)  # raises unless the chain verifies
            champion = str(client.get_registered_model(NAME).aliases["champion"])
            assert champion_of(entries) == champion
            assert not any(entry.is_open for entry in entries)
        worker.stdin.close()
    assert not SOAK or len(found) > 1, "the kills came too early to interrupt anything"
    print(f"{KILLS} kills of {tries} processes; the log held {dict(found)}; {len(entries)} events in the end")
    for version in former_champions(entries):
        source = client.get_model_version(NAME, version).source
        assert ReConPatch.load(source).calibration is not None


def _settled(process: int) -> None:
    while True:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
