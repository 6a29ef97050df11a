"""Prefect's named concurrency slots: what must not happen twice at once, in whatever process.

A slot is leased, and a lease that is no longer renewed expires: a killed flow does not block the next
one. Taking expired leases back is the work of a service that the server a flow starts for itself does
not run, so it is done here whenever a slot is waited for.
"""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

DVC = "dvc"  # DVC's own lock fails at once when it is taken

_LEASE_SECONDS = 60.0  # the shortest that Prefect allows
_LOOK_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0  # a slow server is not a taken slot


def gpu(index: int | None) -> str:
    """The slot of one GPU: of this machine, among those that the process sees, number ``index``."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return f"gpu-{socket.gethostname()}-{visible}-{index or 0}"


def create_slots(*names: str) -> None:
    """Create the slots that do not exist; a limit that someone set higher is left alone."""
    with get_client(sync_client=True) as client:
        for name in names:
            try:
                client.read_global_concurrency_limit_by_name(name)
            except ObjectNotFound:
                client.upsert_global_concurrency_limit_by_name(name, 1)


@contextmanager
def hold(name: str, *, wait: bool = True) -> Iterator[None]:
    """Hold a slot for the block; wait for it, however long its holder lives.

    Raises:
        TimeoutError: it is taken, and ``wait`` is False.
    """
    with ExitStack() as stack:
        with _taking_back():
            if not wait and _taken(name):
                raise TimeoutError(f"the concurrency slot {name} is taken")
            limit = None if wait else _PATIENCE_SECONDS
            stack.enter_context(
                concurrency(name, occupy=1, timeout_seconds=limit, lease_duration=_LEASE_SECONDS, strict=True)
            )
        yield


def _taken(name: str) -> bool:
    with get_client(sync_client=True) as client:
        try:
            slot = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return False
    return slot.active_slots >= slot.limit


@contextmanager
def _taking_back() -> Iterator[None]:
    """Take expired leases back now and then, before the block and for as long as it waits."""
    acquired = threading.Event()

    def watch() -> None:
        while not acquired.wait(_LOOK_SECONDS):
            _take_back_expired()

    # A server that runs for itself does this itself.
    ours = not PREFECT_API_URL.value()
    if ours:
        _take_back_expired()
    watcher = threading.Thread(target=watch, daemon=True) if ours else None
    if watcher is not None:
        watcher.start()
    try:
        yield
    finally:
        acquired.set()
        if watcher is not None:
            watcher.join()


def _take_back_expired() -> None:
    now = datetime.now(UTC)
    with get_client(sync_client=True) as client:
        for file in (PREFECT_HOME.value() / "concurrency_leases").glob("*-*.json"):
            try:
                lease = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                continue  # given back meanwhile
            if datetime.fromisoformat(lease["expiration"]) < now:
                client.release_concurrency_slots_with_lease(UUID(lease["id"]))
