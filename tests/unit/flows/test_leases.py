"""Leases that a power cut or a full disk left unreadable."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows import slots

BUSY, STALE = (SimpleNamespace(id=uuid4(), name=name, active_slots=1) for name in ("busy", "stale"))


class _Server:
    """What a flow's own server is asked for."""

    def __init__(self) -> None:
        self.released: list[UUID] = []
        self.freed: list[tuple[str, int]] = []
        self.counted_now: dict[str, int] = {}

    def release_concurrency_slots_with_lease(self, lease: UUID) -> None:
        self.released.append(lease)

    def read_global_concurrency_limits(self, limit: int) -> list[SimpleNamespace]:
        assert limit
        return [BUSY, STALE]

    def read_global_concurrency_limit_by_name(self, name: str) -> SimpleNamespace:
        return SimpleNamespace(active_slots=self.counted_now.get(name, 1))

    def update_global_concurrency_limit(self, name: str, told) -> None:
        self.freed.append((name, told.active_slots))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    found = _Server()

    @contextmanager
    def client(**_):
        yield found

    @contextmanager
    def acquired(*_, **__):
        yield

    monkeypatch.setattr(slots, "get_client", client)
    monkeypatch.setattr(slots, "concurrency", acquired)
    (tmp_path / "concurrency_leases").mkdir()
    with temporary_settings({PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_URL}):
        yield found


def _lease(home: Path, *, ends: timedelta, of: SimpleNamespace) -> UUID:
    lease = uuid4()
    content = {
        "id": str(lease),
        "resource_ids": [str(of.id)],
        "metadata": {"slots": 1},
        "expiration": (datetime.now(UTC) + ends).isoformat(),
    }
    (home / "concurrency_leases" / f"{lease}.json").write_text(json.dumps(content))
    return lease


@pytest.mark.parametrize("content", [b"", b'{"id": "8c', b"[]", b"{}", b"\xff\xfe"])
def test_an_unreadable_lease_stops_nobody_and_goes_once_it_must_be_over(
    server: _Server, tmp_path: Path, content: bytes
) -> None:
    _lease(tmp_path, ends=timedelta(minutes=1), of=BUSY)
    expired = _lease(tmp_path, ends=-timedelta(minutes=1), of=STALE)
    broken = tmp_path / "concurrency_leases" / f"{uuid4()}.json"
    broken.write_bytes(content)
    with slots.hold("stale"):
        pass
    assert (server.released, server.freed, broken.exists()) == ([expired], [], True)
    long_ago = time.time() - 24 * 3600
    os.utime(broken, (long_ago, long_ago))
    server.counted_now = {"stale": 2}  # somebody took it since, and the lease is not written yet
    with slots.hold("stale"):
        pass
    assert (server.freed, broken.exists()) == ([], True)
    server.counted_now = {}
    with slots.hold("stale"):
        pass
    # What the broken one had taken is told by nothing but that no other lease tells of it.
    assert (server.freed, broken.exists()) == ([("stale", 0)], False)


def test_leases_that_cannot_be_taken_back_do_not_stop_who_waits(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: UUID) -> None:
        raise RuntimeError("the server is gone")

    _lease(tmp_path, ends=-timedelta(minutes=1), of=STALE)
    monkeypatch.setattr(server, "release_concurrency_slots_with_lease", gone)
    with slots.hold("stale"):
        pass
