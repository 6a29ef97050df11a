"""Limits on connections: their number, and the time for a request's headers and for reading an answer.

Why not uvicorn's options: ``limit_concurrency`` looks at a request once its headers are complete, so
connections without a request still take every file descriptor, and it does not count by address;
``timeout_keep_alive`` starts after an answer only. Uvicorn has no timeout for headers that arrive slowly, nor
for a client that does not read. Starlette sees a connection only once the headers are complete.
"""

import asyncio
import ipaddress
from collections import Counter
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

from reconpatch.line.server.server_options import ServerLimits


def _refusal(status: str, reason: str, header: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain\r\n{header}"
    return f"{head}content-length: {len(reason)}\r\n\r\n{reason}".encode()


_LATE = _refusal("408 Request Timeout", "timed out reading the request headers")
_CROWDED = _refusal("503 Service Unavailable", "too many connections; come again", "retry-after: 1\r\n")


class Connections:
    """Number of open connections, in all and by address."""

    def __init__(self, limits: ServerLimits) -> None:
        self._limits = limits
        self._open = 0
        self._of: Counter[str] = Counter()

    def enter(self, address: str | None) -> bool:
        """Count a new connection; False, and not counted, where a limit is reached."""
        if self._open >= self._limits.connections:
            return False
        if address:
            if 0 < self._limits.address_connections <= self._of[address]:
                return False
            self._of[address] += 1
        self._open += 1
        return True

    def leave(self, address: str | None) -> None:
        """Count down for a connection that `enter` counted."""
        self._open -= 1
        if address:
            self._of[address] -= 1
            self._of += Counter()  # drops those without a connection


class LimitedConnection(H11Protocol):
    """Uvicorn's connection, with limits on the number of connections and on the time that each waits.

    Attributes:
        limits: ``head_seconds`` from the connection, or from the first byte of a further request on it;
            ``unread_seconds`` from written bytes to the client that reads them.
        entered: counts the open connections.
    """

    limits: ClassVar[ServerLimits]
    entered: ClassVar[Connections]
    _waiting: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _address: str | None = None
    _entered = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the headers, or refuse the connection."""
        super().connection_made(transport)
        # So `pause_writing` is called while any byte waits, also while the connection is being closed.
        transport.set_write_buffer_limits(high=0)
        self._address = counted_address(self.client[0] if self.client else None)
        self._entered = self.entered.enter(self._address)
        if self._entered:
            self._wait()
        else:
            self._say(_CROWDED)

    def data_received(self, data: bytes) -> None:
        """Stop the timeout once the headers are complete."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif self._waiting is None and (before is None or before.response_complete):
            self._wait()

    def pause_writing(self) -> None:
        """Start the timeout for a client that does not read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop that timeout: the client has read everything."""
        self._stop_unread()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timeouts and count the connection down."""
        self._stop_waiting()
        self._stop_unread()
        if self._entered:
            self.entered.leave(self._address)
            self._entered = False
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _give_up(self) -> None:
        self._waiting = None
        self._say(_LATE)

    def _say(self, refusal: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(refusal)
            self.transport.close()


def counted_address(host: str | None) -> str | None:
    """What connections are counted by: the IPv4 address or the /64 IPv6 network; None: not counted."""
    try:
        address = ipaddress.ip_address(host or "")
    except ValueError:  # a socket in the file system
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return None if address.is_loopback else f"{int(address) >> 64:x}/64"
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)


def limited_connection(limits: ServerLimits) -> type[LimitedConnection]:
    """The connection class with these limits, for ``uvicorn.run(http=...)``."""
    return type("LimitedConnection", (LimitedConnection,), {"limits": limits, "entered": Connections(limits)})
