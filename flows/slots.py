"""Prefect's named concurrency slots: what must not happen twice at once, in whatever process.

A slot is leased, and a lease that is no longer renewed expires: a killed flow does not block the next
one. Taking expired leases back is the work of a service that the server a flow starts for itself does
not run, so it is done here whenever a slot is waited for.
"""

import json
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

DVC = "dvc"  # DVC's own lock fails at once when it is taken

_LEASE_SECONDS = 60.0  # the shortest that Prefect allows
_LONGEST_LEASE_SECONDS = 3600.0  # more than Prefect itself asks for: of deployments it takes 300
_LOOK_SECONDS = 15.0
_PATIENCE_SECONDS = 60.0  # a slow server is not a taken slot
_MOST_LIMITS = 200  # that Prefect lists at once

_LOG = logging.getLogger("tasks.slots")


@dataclass(frozen=True)
class _Lease:
    id: UUID
    slots: Counter[UUID]
    expiration: datetime

    @classmethod
    def read(cls, file: Path) -> "_Lease | None":
        """What Prefect wrote; None where it holds no lease (a power cut or a full disk leaves such files)."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            count = int((values["metadata"] or {}).get("slots", 1))
            slots = Counter({UUID(one): count for one in values["resource_ids"]})
            end = datetime.fromisoformat(values["expiration"])
            return cls(UUID(values["id"]), slots, end.replace(tzinfo=end.tzinfo or UTC))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None


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
            _look()

    # A server that runs for itself does this itself.
    ours = not PREFECT_API_URL.value()
    if ours:
        _look()
    watcher = threading.Thread(target=watch, daemon=True) if ours else None
    if watcher is not None:
        watcher.start()
    try:
        yield
    finally:
        acquired.set()
        if watcher is not None:
            watcher.join()


def _look() -> None:
    try:
        _take_back_expired()
    except Exception as error:
        # Whoever waits goes on to wait; a server that is gone is told of by the request for the slot.
        _LOG.warning("expired leases of slots: not taken back (%s: %s)", type(error).__name__, error)


def _take_back_expired() -> None:
    now = datetime.now(UTC)
    lost: list[Path] = []
    with get_client(sync_client=True) as client:
        for file, lease in _leases():
            if lease is None:
                lost += [file] if _is_overdue(file) else []
            elif lease.expiration < now:
                client.release_concurrency_slots_with_lease(lease.id)
        if lost and not _free_unheld(client, now):
            return  # somebody took or gave back a slot meanwhile; the next look sees it
    # Last, so that a kill in between leaves them to the next look.
    for file in lost:
        _LOG.warning("%s: holds no lease that can be read; removed, and what it had taken is free", file)
        file.unlink(missing_ok=True)


def _is_overdue(file: Path) -> bool:
    """Whether a lease of this age was renewed by nobody; False for one that was given back meanwhile."""
    try:
        return time.time() - file.stat().st_mtime > _LONGEST_LEASE_SECONDS
    except FileNotFoundError:
        return False


def _leases() -> Iterator[tuple[Path, _Lease | None]]:
    for file in (PREFECT_HOME.value() / "concurrency_leases").glob("*-*.json"):
        yield file, _Lease.read(file)


def _free_unheld(client: SyncPrefectClient, now: datetime) -> bool:
    """Free slots that no lease tells of: which ones a lease that cannot be read had taken, nobody knows.

    Prefect counts a slot first and writes its lease after; one that is counted otherwise now is let be.

    Returns:
        Whether all could be freed.
    """
    counted = client.read_global_concurrency_limits(limit=_MOST_LIMITS)
    valid = (lease for _, lease in _leases() if lease is not None and lease.expiration >= now)
    held = sum((lease.slots for lease in valid), Counter[UUID]())
    unheld = [slot for slot in counted if slot.active_slots > held[slot.id]]
    quiet = True
    for slot in unheld:
        if client.read_global_concurrency_limit_by_name(slot.name).active_slots != slot.active_slots:
            quiet = False
            continue
        told = GlobalConcurrencyLimitUpdate(active_slots=held[slot.id])
        client.update_global_concurrency_limit(slot.name, told)
    return quiet
