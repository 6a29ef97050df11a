import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import lock_descriptor

import flows
import reconpatch
import tasks
from reconpatch.storage import file_locks
from reconpatch.storage.file_locks import file_lock


def test_a_lock_keeps_others_out_for_the_block_alone(tmp_path):
    path = tmp_path / "deep" / "a.lock"
    with file_lock(path), path.open() as other:
        assert not lock_descriptor(other.fileno(), blocking=False)
    with path.open() as other:
        assert lock_descriptor(other.fileno(), blocking=False)


def test_threads_of_one_process_exclude_each_other_and_no_holder_is_let_in_again(tmp_path):
    path = tmp_path / "a.lock"
    inside, most = 0, 0

    def work(_):
        nonlocal inside, most
        with file_lock(path):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == 1
    with file_lock(path), pytest.raises(TimeoutError):
        file_lock(path, 0).__enter__()


def test_no_module_needs_fcntl_to_be_imported():
    # Windows has none; a function may still import it where the system has it.
    for package in (reconpatch, tasks, flows):
        for path in Path(package.__path__[0]).rglob("*.py"):
            assert "\nimport fcntl" not in path.read_text(encoding="utf-8"), path


# Holds a lock until its standard input ends.
_HOLDER = """
import sys
from pathlib import Path
from reconpatch.storage.file_locks import file_lock

with file_lock(Path(sys.argv[1]), holder="flow run 7"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def _holder(path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process


def test_who_waits_for_a_lock_says_who_holds_it_since_when_and_again(tmp_path, caplog, monkeypatch):
    path = tmp_path / "a.lock"
    monkeypatch.setattr(file_locks, "_FIRST_NOTICE_SECONDS", 0.0)
    monkeypatch.setattr(file_locks, "_NOTICE_SECONDS", 0.0)
    with _holder(path) as holder:

        def let_go(_):
            if len(caplog.records) == 2:
                holder.stdin.close()

        monkeypatch.setattr(file_locks.time, "sleep", let_go)
        with file_lock(path):
            pass
        told = rf"waits for {path}, held by process {holder.pid} on .*, flow run 7, since 2\d\d\d-\d\d-\d\d "
        assert re.match(told, caplog.messages[0])
        assert re.match(told, caplog.messages[1])
    assert path.read_text() == ""


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "a.lock"
    with _holder(path) as holder:
        with pytest.raises(TimeoutError, match=rf"holds it \(process {holder.pid} on "):
            file_lock(path, 0).__enter__()
        holder.kill()
        holder.wait()
        with file_lock(path, 0):
            assert f"process {os.getpid()} on" in path.read_text()


def test_an_impatient_lock_is_refused_while_another_holds_it(tmp_path):
    path = tmp_path / "a.lock"
    with (
        file_lock(path),
        pytest.raises(TimeoutError, match=r"a\.lock: another process"),
        file_lock(path, 0.1),
    ):
        pass
    with file_lock(path, 0.1):
        pass
