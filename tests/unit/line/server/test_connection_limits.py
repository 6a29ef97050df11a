"""Connections on which nobody reads or that are too many, on a real server over a small application."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from reconpatch.line.server import connection_limits
from reconpatch.line.server.connection_limits import Connections, counted_address, limited_connection
from reconpatch.line.server.server_options import ServerLimits

LARGE = 16 << 20  # more than the system keeps for a client that does not read


@dataclass(frozen=True)
class Listening:
    """A server in this process.

    Attributes:
        server: uvicorn's.
        port: on loopback.
    """

    server: uvicorn.Server
    port: int

    def connect(self) -> socket.socket:
        """A client that takes little unless it reads."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(300)
        client.connect(("127.0.0.1", self.port))
        return client

    def wait_for(self, count: int) -> None:
        """Until so many connections are open."""
        _wait(lambda: len(self.server.server_state.connections) == count)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def _answers(scope: dict[str, Any], _: object, send: Callable[..., Any]) -> None:
    """One body, or with the path /pieces many."""
    length = [(b"content-length", str(LARGE).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    pieces = 256 if scope["path"] == "/pieces" else 1
    for number in range(pieces):
        body = bytes(LARGE // pieces)
        await send({"type": "http.response.body", "body": body, "more_body": number + 1 < pieces})


@contextmanager
def listening(limits: ServerLimits) -> Iterator[Listening]:
    config = uvicorn.Config(
        _answers,
        http=limited_connection(limits),
        port=0,
        lifespan="off",
        log_level="critical",
        timeout_keep_alive=300,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        _wait(lambda: server.started)
        yield Listening(server, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.mark.parametrize("path", ["/", "/pieces"])
@pytest.mark.parametrize("header", ["", "Connection: close\r\n"])
def test_a_client_that_never_reads_is_cut_off(path: str, header: str) -> None:
    with listening(ServerLimits(unread_seconds=0.1)) as served, served.connect() as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
        served.wait_for(1)
        served.wait_for(0)


def test_a_client_that_reads_gets_all() -> None:
    with listening(ServerLimits(unread_seconds=3600)) as served, served.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        size = 0
        while piece := client.recv(1 << 20):
            size += len(piece)
        assert size > LARGE


@pytest.mark.parametrize("kind", ["all", "of one address"])
def test_a_connection_too_many_is_answered_and_closed(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(connection_limits, "counted_address", lambda host: f"not {host}")
    limits = ServerLimits(connections=2) if kind == "all" else ServerLimits(address_connections=2)
    with listening(limits) as served, served.connect() as first, served.connect():
        served.wait_for(2)
        with served.connect() as third:
            answer = b""
            while piece := third.recv(4096):
                answer += piece
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: " in answer
        first.close()
        served.wait_for(1)
        with served.connect() as again:
            again.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert again.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_each_address_has_its_own_number_and_leaving_makes_room() -> None:
    counted = Connections(ServerLimits(connections=5, address_connections=2))
    assert [counted.enter(address) for address in ("a", "a", "a", "b", None, None, None)] == [
        *(True, True, False, True),
        *(True, True, False),  # five of all
    ]
    counted.leave("a")
    assert counted.enter("a")
    assert not counted.enter("a")
    unbounded = Connections(ServerLimits(connections=5, address_connections=0))
    assert all(unbounded.enter("a") for _ in range(5))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", None),
        ("127.5.5.5", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        (None, None),
        ("/run/socket", None),
        ("192.168.1.5", "192.168.1.5"),
        ("::ffff:192.168.1.5", "192.168.1.5"),
    ],
)
def test_loopback_is_not_counted_by_address(host: str | None, address: str | None) -> None:
    assert counted_address(host) == address


def test_of_ipv6_the_network_counts() -> None:
    first, second, other = map(counted_address, ("2001:db8::1", "2001:db8::f:2", "2001:db8:0:1::1"))
    assert first == second
    assert first != other
    assert counted_address("fe80::1%eth0") == counted_address("fe80::2%eth0")
