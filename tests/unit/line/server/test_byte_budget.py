"""The bytes of all requests under way, counted as they come and given back, and the time of a request."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import HTTPException
from starlette.types import Message

from reconpatch.line.server.byte_budget import ByteBudget
from reconpatch.line.server.prediction_queue import OverloadedError
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.request_guard import RequestGuard
from reconpatch.line.server.server_options import ServerLimits, ServerOptions

PREDICT = "/api/categories/nut/predict"


def test_what_a_request_holds_is_given_back_when_it_ends() -> None:
    budget = ByteBudget(100)
    with budget.share() as first, budget.share() as second:
        first.take(60)
        with pytest.raises(OverloadedError):
            second.take(41)
        second.take(40)
        assert (budget.free, first.held, second.held) == (0, 60, 40)
    assert budget.free == 100
    with pytest.raises(OverloadedError):  # a thread that reads on after its request was given up
        first.take(1)
    assert budget.free == 100


async def _reads(_: Any, receive: Callable[[], Any], send: Callable[..., Any]) -> None:
    """An application that reads the whole body."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class _Client:
    """Sends one request to a guard, piece by piece."""

    def __init__(self, guard: RequestGuard, *headers: tuple[bytes, bytes]) -> None:
        self.sent: asyncio.Queue[Message] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.answer: list[Message] = []
        self.scope = {
            "type": "http", "path": PREDICT, "method": "POST",
            "headers": [(b"host", b"localhost"), *(headers or [(b"transfer-encoding", b"chunked")])],
        }  # fmt: skip
        self.task = asyncio.create_task(guard(self.scope, self._receive, self._send))

    async def send(self, size: int, *, more: bool) -> None:
        """Send a piece and wait until it was taken, or the request has ended."""
        self.sent.put_nowait({"type": "http.request", "body": bytes(size), "more_body": more})
        while not self.sent.empty() and not self.task.done():
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)

    async def _receive(self) -> Message:
        return await self.sent.get()

    async def _send(self, message: Message) -> None:
        self.answer.append(message)


@pytest.fixture
def guarded() -> tuple[RequestGuard, ByteBudget]:
    limits = ServerLimits(request_bytes=100, total_bytes=100)
    budget = ByteBudget(limits.total_bytes)
    return RequestGuard(_reads, ServerOptions(limits=limits), Metrics(), budget), budget


def test_of_two_requests_half_received_neither_waits_for_the_other(
    guarded: tuple[RequestGuard, ByteBudget],
) -> None:
    guard, budget = guarded

    async def both() -> None:
        first, second = _Client(guard), _Client(guard)
        await first.send(60, more=True)
        assert budget.free == 40
        await second.send(60, more=True)
        with pytest.raises(HTTPException) as refused:
            await second.task
        assert refused.value.status_code == 503
        assert refused.value.headers == {"Retry-After": "1"}
        await first.send(30, more=False)
        await first.task
        assert first.answer[0]["status"] == 200
        assert budget.free == 100

    asyncio.run(both())


def test_a_refused_request_makes_room_for_the_others_at_once() -> None:
    refused: dict[int, int] = {}

    async def lingers(scope: Any, receive: Callable[[], Any], send: Callable[..., Any]) -> None:
        try:
            await _reads(scope, receive, send)
        except HTTPException as error:
            refused[id(scope)] = error.status_code
            await asyncio.Event().wait()  # a sender that does not heed the answer

    async def many() -> None:
        limits = ServerLimits(request_bytes=100, total_bytes=100)
        guard = RequestGuard(lingers, ServerOptions(limits=limits), Metrics(), ByteBudget(limits.total_bytes))
        clients = [_Client(guard) for _ in range(5)]
        for number in range(5):
            for client in clients:
                if id(client.scope) not in refused:
                    await client.send(20, more=number < 4)
        assert list(refused.values()) == [503] * 4
        assert [client.answer[0]["status"] for client in clients if client.answer] == [200]
        for client in clients:
            client.task.cancel()

    asyncio.run(many())


def test_what_is_announced_and_does_not_fit_is_refused_before_it_is_sent(
    guarded: tuple[RequestGuard, ByteBudget],
) -> None:
    guard, budget = guarded

    async def announced() -> None:
        with budget.share() as other:
            other.take(50)
            client = _Client(guard, (b"content-length", b"51"))
            client.sent.put_nowait({"type": "http.disconnect"})  # heeds the answer
            await client.task
        assert client.answer[0]["status"] == 503
        assert (b"retry-after", b"1") in client.answer[0]["headers"]
        assert budget.free == 100

    asyncio.run(announced())


def test_a_sender_that_goes_away_leaves_nothing_held(guarded: tuple[RequestGuard, ByteBudget]) -> None:
    guard, budget = guarded

    async def gone() -> None:
        client = _Client(guard)
        await client.send(60, more=True)
        assert budget.free == 40
        client.task.cancel()
        await asyncio.gather(client.task, return_exceptions=True)
        assert budget.free == 100

    asyncio.run(gone())


@pytest.mark.parametrize(("piece", "status"), [(b"", 408), (None, 503)])
def test_a_request_out_of_time_is_answered(piece: bytes | None, status: int) -> None:
    async def hangs(_: Any, receive: Callable[[], Any], __: object) -> None:
        await receive()
        await asyncio.Event().wait()

    async def late() -> None:
        limits = ServerLimits(seconds=0.05)
        guard = RequestGuard(hangs, ServerOptions(limits=limits), Metrics(), ByteBudget(limits.total_bytes))
        client = _Client(guard)
        client.sent.put_nowait({"type": "http.request", "body": b"", "more_body": piece is not None})
        client.sent.put_nowait({"type": "http.disconnect"})
        await client.task
        assert client.answer[0]["status"] == status

    asyncio.run(late())


def test_an_answer_that_has_begun_is_not_ended_by_the_time_of_the_request() -> None:
    begun = []

    async def slow(_: object, __: object, send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.append(asyncio.get_running_loop().time())
        while asyncio.get_running_loop().time() < begun[0] + 0.2:
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"all"})

    async def ask() -> None:
        limits = ServerLimits(seconds=0.1)
        guard = RequestGuard(slow, ServerOptions(limits=limits), Metrics(), ByteBudget(limits.total_bytes))
        client = _Client(guard)
        await client.task
        assert client.answer[-1]["body"] == b"all"

    asyncio.run(ask())
