"""Processes that decode: they answer as decoding here would, end in time, and take nobody with them."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.decoding import decoding_pool
from reconpatch.data.decoding.decoding_pool import DecodingPool, DecodingStoppedError
from reconpatch.data.decoding.image_bytes import image_size
from reconpatch.data.images import decode_image, probe_image, probe_mask
from reconpatch.data.probe_cache import ProbeCache
from reconpatch.errors import DataError, ReConPatchError
from tests.image_files import COLOUR, save

SECONDS = 60.0
PATIENCE = 300.0
# A decoder written in C that never comes to an end.
ENDLESS = """
import collections, itertools, sys
sys.path[:] = sys.argv[2:]
from reconpatch.data.decoding import decoding_process
decoding_process._answer = lambda *_: collections.deque(itertools.repeat(0), maxlen=0)
decoding_process.main(int(sys.argv[1]))
"""


@pytest.fixture
def pool() -> Iterator[DecodingPool]:
    pool = DecodingPool(2)
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def a_machine_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_pool, "BUSY_FACTOR", 10_000)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "a.png", Image.fromarray(COLOUR))


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_pool, "_PROGRAM", ENDLESS)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Identifiers of the processes in the order of their start."""
    found: list[int] = []
    start = subprocess.Popen

    def recorded(*arguments, **options):
        process = start(*arguments, **options)
        found.append(process.pid)
        return process

    monkeypatch.setattr(decoding_pool.subprocess, "Popen", recorded)
    return found


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_answers_are_those_of_decoding_here(pool, image, tmp_path):
    data = image.read_bytes()
    assert pool.size(data, SECONDS) == image_size(data) == (12, 9)
    pixels = pool.image(data, "a", SECONDS)
    np.testing.assert_array_equal(pixels, decode_image(data, "a"))
    assert pixels.dtype == np.uint8
    assert pool.probe_image(image, SECONDS) == probe_image(image)
    assert pool.probe_mask(image, 127, SECONDS) == probe_mask(image, 127)
    missing = pool.probe_image(tmp_path / "b\udcff.png", SECONDS)
    assert missing == probe_image(tmp_path / "b\udcff.png")
    assert "no such file" in str(missing.problem)


def test_a_refused_image_keeps_its_reason_and_the_process(pool, image, started):
    with pytest.raises(DataError, match=r"^b: is damaged or cut short") as caught:
        pool.image(image.read_bytes()[:-20], "b", SECONDS)
    assert not isinstance(caught.value, DecodingStoppedError)
    with pytest.raises(DataError, match="known format"):
        pool.size(b"nothing", SECONDS)
    assert pool.size(image.read_bytes(), SECONDS) == (12, 9)
    assert len(started) == 1


def test_one_that_computes_too_long_is_ended_and_the_next_is_decoded(pool, image, started, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(decoding_pool, "_PROGRAM", ENDLESS)
        with pytest.raises(DecodingStoppedError, match=r"took longer than 0.1 s to decode; save it again as"):
            pool.probe_image(image, 0.1)
        with pytest.raises(DecodingStoppedError, match=r"^a: took longer than 0.1 s"):
            pool.image(image.read_bytes(), "a", 0.1)
    assert all(gone(pid) for pid in started)
    assert pool.size(image.read_bytes(), SECONDS) == (12, 9)
    assert len(started) == 3
    assert not pool.is_overdue


def test_one_that_waits_too_long_is_ended_by_the_clock(pool, image, started, monkeypatch):
    pool.size(image.read_bytes(), SECONDS)
    os.kill(started[0], signal.SIGSTOP)
    monkeypatch.setattr(decoding_pool, "BUSY_FACTOR", 0.5)
    with pytest.raises(DecodingStoppedError, match=r"took longer than 0.1 s"):
        pool.size(image.read_bytes(), 0.2)
    assert gone(started[0])


def test_one_that_cannot_be_ended_is_overdue_until_it_is_gone(pool, image, started, monkeypatch):
    pool.size(image.read_bytes(), SECONDS)
    os.kill(started[0], signal.SIGSTOP)
    with monkeypatch.context() as patched:
        patched.setattr(decoding_pool, "BUSY_FACTOR", 0.5)
        patched.setattr(decoding_pool, "_GONE_SECONDS", 0.05)
        patched.setattr(decoding_pool._Process, "kill", lambda _: None)
        with pytest.raises(DecodingStoppedError, match="took longer"):
            pool.size(image.read_bytes(), 0.2)
    assert pool.is_overdue
    assert pool.size(image.read_bytes(), SECONDS) == (12, 9)
    assert pool.is_overdue
    os.kill(started[0], signal.SIGKILL)
    wait_for(lambda: not pool.is_overdue)


def test_one_that_ends_by_itself_is_tried_once_more(pool, image, monkeypatch):
    deaths = [1]
    real = decoding_pool._Process.ask

    def ask(process, job, data):
        if deaths:
            deaths.pop()
            process.kill()
        return real(process, job, data)

    monkeypatch.setattr(decoding_pool._Process, "ask", ask)
    assert pool.size(image.read_bytes(), SECONDS) == (12, 9)
    deaths += [1, 1]
    with pytest.raises(DecodingStoppedError, match=r"ended the process .* twice \(signal SIGKILL"):
        pool.probe_image(image, SECONDS)
    assert pool.probe_image(image, SECONDS).problem is None


def test_a_process_that_does_not_start_is_no_fault_of_the_image(pool, image, monkeypatch):
    monkeypatch.setattr(decoding_pool, "_PROGRAM", "raise SystemExit(7)")
    with pytest.raises(ReConPatchError, match=r"did not start \(exit status 7\)") as caught:
        pool.probe_image(image, SECONDS)
    assert not isinstance(caught.value, DataError)
    monkeypatch.setattr(decoding_pool.sys, "executable", "/no/such/python")
    with pytest.raises(ReConPatchError, match="no process can be started"):
        pool.probe_image(image, SECONDS)


@pytest.mark.usefixtures("endless")
def test_the_end_waits_for_nothing(pool, image, started):
    said: list[str] = []

    def ask():
        try:
            pool.image(image.read_bytes(), "a", 10_000.0)
        except DecodingStoppedError as error:
            said.append(str(error))

    askers = [threading.Thread(target=ask) for _ in range(3)]  # two at work, one waiting for its turn
    for asker in askers:
        asker.start()
    wait_for(lambda: len(started) == 2)
    pool.close()
    for asker in askers:
        asker.join(PATIENCE)
    assert said == ["a: was not decoded: decoding has ended"] * 3
    assert all(gone(pid) for pid in started)
    assert pool.is_closed


@pytest.mark.parametrize("busy", [False, True])
def test_it_ends_with_a_parent_that_is_killed(image, busy):
    program = f"""
import sys, threading, time
from pathlib import Path
from reconpatch.data.decoding import decoding_pool
if {busy}:
    decoding_pool._PROGRAM = {ENDLESS!r}
pool = decoding_pool.DecodingPool(1)
ask = lambda: pool.probe_image(Path({str(image)!r}), 10_000.0)
if {busy}:
    threading.Thread(target=ask, daemon=True).start()
    while not any(process.is_ready for process in pool._busy):
        time.sleep(0.01)
else:
    ask()
print(*(process._process.pid for process in [*pool._busy, *pool._idle]), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        (pid,) = map(int, parent.stdout.readline().split())
        assert not gone(pid)
        parent.kill()
    wait_for(lambda: gone(pid))


def test_it_holds_neither_sockets_nor_secrets_of_its_parent(pool, image, started, monkeypatch):
    monkeypatch.setenv("RECONPATCH_API_KEY", "a key of a server")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.set_inheritable(True)
        number = os.fstat(listening.fileno()).st_ino
        pool.size(image.read_bytes(), SECONDS)
        held = [entry.readlink().name for entry in Path(f"/proc/{started[0]}/fd").iterdir()]
    assert f"socket:[{number}]" not in held
    assert sum(name.startswith("socket:") for name in held) == 1
    assert b"a key of a server" not in Path(f"/proc/{started[0]}/environ").read_bytes()


def test_a_child_after_a_fork_has_processes_of_its_own(pool, image, started):
    pool.size(image.read_bytes(), SECONDS)
    child = os.fork()
    if child == 0:
        try:
            right = pool.size(image.read_bytes(), SECONDS) == (12, 9) and len(started) == 2
            pool.close()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.size(image.read_bytes(), SECONDS) == (12, 9)
    assert len(started) == 1


def _probe(path: Path) -> None:
    assert ProbeCache(None, SECONDS).image(path) == probe_image(path)


def test_a_daemon_may_ask(image):
    daemon = multiprocessing.get_context("spawn").Process(target=_probe, args=(image,), daemon=True)
    daemon.start()
    daemon.join(PATIENCE)
    assert daemon.exitcode == 0


def test_many_threads_share_few_processes(pool, image, started):
    threads = [threading.Thread(target=pool.probe_image, args=(image, SECONDS)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert 1 <= len(started) <= 2


def test_it_imports_little():
    program = "import sys, reconpatch.data.decoding.decoding_process; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "pandas", "pydantic", "scipy", "matplotlib"} & set(done.stdout.split())


def test_what_was_stopped_is_a_problem_that_nobody_remembers(tmp_path, image, monkeypatch):
    os.utime(image, (1, 1))
    monkeypatch.setattr("reconpatch.data.probe_cache._SETTLED_SECONDS", -PATIENCE)
    impatient = DecodingPool(1)
    monkeypatch.setattr("reconpatch.data.probe_cache.shared_pool", lambda: impatient)
    with monkeypatch.context() as patched:
        patched.setattr(decoding_pool, "_PROGRAM", ENDLESS)
        cache = ProbeCache(tmp_path / "seen.json", 0.1)
        for probe in (cache.image(image), cache.mask(image, 127)):
            assert "took longer than 0.1 s" in str(probe.problem)
            assert probe.sha256 == probe_image(image).sha256
        cache.save()
    cache = ProbeCache(tmp_path / "seen.json", SECONDS)
    assert cache.image(image) == probe_image(image)
    impatient.close()
