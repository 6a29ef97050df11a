"""Programs that run beside a test."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def free_port() -> int:
    """A port on loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(log: Path, *command: str, **given: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that writes to a log, ended with the block together with its children."""
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True, **given
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, 15)
            process.wait(20)
        # A child may outlive the program that started it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()
