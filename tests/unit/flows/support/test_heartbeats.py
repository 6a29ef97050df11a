"""Which runs were left by a process that is gone."""

import os
import socket
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from flows.support import heartbeats

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=400)
HOST = socket.gethostname()


@pytest.mark.parametrize(
    ("process", "begun", "dead"),
    [
        (f"{HOST}:{os.getpid()}", NOW, False),
        (f"{HOST}:{os.getpid()}", LONG_AGO, True),  # another one had the number then
        (f"{HOST}:4194305", NOW, True),  # no Linux gives a number above 4194304
        ("elsewhere:4194305", NOW, False),
        (None, NOW, False),
        (f"{HOST}:4194305", None, True),
    ],
    ids=["alive", "number of another", "gone", "elsewhere", "unknown", "never begun"],
)
def test_a_run_is_dead_where_its_process_was_one_of_this_machine_and_is_gone(process, begun, dead) -> None:
    assert heartbeats._is_dead(SimpleNamespace(infrastructure_pid=process, start_time=begun)) is dead
