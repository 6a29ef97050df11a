"""Checks before every request: the key, the site it comes from, its size, its time.

The bytes of a body are counted as they arrive, for the request and for the budget of all requests.

Why not Starlette's TrustedHostMiddleware and RequestBodyLimitMiddleware: their answers do not say what to do,
one limit holds for all paths, and they close the connection on a sender that is still sending, which then
may not get to read the refusal. FastAPI's security dependencies run once the body has been read.
"""

import asyncio
import hmac
import time

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconpatch.line.server.byte_budget import ByteBudget, Share
from reconpatch.line.server.prediction_queue import OverloadedError
from reconpatch.line.server.prometheus_metrics import Metrics
from reconpatch.line.server.server_options import ServerOptions

# Open without a key: the page, which asks for the key, the probes, and the description of the API.
_OPEN = ("/", "/health", "/ready", "/docs", "/openapi.json")
_OPEN_FOLDERS = ("/static/", "/static-offline-docs/")
_READS = ("GET", "HEAD", "OPTIONS")
# Senders choose the method: invented methods share one label, so that labels do not grow without limit.
_METHODS = (*_READS, "POST", "PUT", "PATCH", "DELETE")
# The path that takes images; every other path takes JSON.
_TAKES_IMAGES = "/predict"
_JSON_BYTES = 64 << 10
_RETRY = {"Retry-After": "1"}
_FULL = "the server has too much to do; come again"
# How long the server reads on from a refused sender, who otherwise may never see the refusal.
_LINGER_SECONDS = 5.0


class RequestGuard:
    """Middleware around the whole application."""

    def __init__(self, app: ASGIApp, options: ServerOptions, metrics: Metrics, held: ByteBudget) -> None:
        self._app = app
        self._options = options
        self._metrics = metrics
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._held.share() as share:
            await self._guard(scope, _Exchange(scope, receive, send, self._most(scope), share))

    async def _guard(self, scope: Scope, exchange: "_Exchange") -> None:
        start = time.perf_counter()
        refusal = self._refusal(scope)
        try:
            if refusal is not None:
                await exchange.refuse(*refusal)
                return
            async with asyncio.timeout(self._options.limits.seconds) as exchange.time_left:
                await self._app(scope, exchange.receive, exchange.send)
        except TimeoutError:
            if exchange.status is None and exchange.whole:
                await exchange.refuse(503, "the detector did not answer in time; come again")
            elif exchange.status is None:
                await exchange.refuse(408, "the request did not arrive in time")
        finally:
            # Before the route is known nothing of the path may become a label: senders choose paths.
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, str(exchange.status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - start)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        if self._options.api_key is None:
            # Without a key a page elsewhere on the web could reach in under a name of its own.
            if not _names_loopback(headers.get("host", "")):
                return 400, "this server answers to localhost alone; start it with --host and an API key"
            if scope["method"] not in _READS and _is_foreign(headers):
                return 403, "a page of another site may not send this; start the server with an API key"
        elif not _is_open(scope["path"]) and not self._has_key(headers):
            return 401, "give the server's key as the header X-API-Key or as a bearer token"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, "content-length is no number"
        size = int(length[:20])
        if size > self._most(scope):
            return 413, _too_large(self._most(scope))
        if size > self._held.free:
            return 503, _FULL
        return None

    def _most(self, scope: Scope) -> int:
        most = self._options.limits.request_bytes
        return most if scope["path"].endswith(_TAKES_IMAGES) else min(most, _JSON_BYTES)

    def _has_key(self, headers: Headers) -> bool:
        given = headers.get("x-api-key", "")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not given and scheme.lower() == "bearer":
            given = token
        return hmac.compare_digest(given.encode("latin-1"), (self._options.api_key or "").encode())


class _Exchange:
    """One request and its answer: counts the bytes received, and lets a refused sender read the refusal."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int, share: Share) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._most = most
        self._share = share
        self.whole = not {"content-length", "transfer-encoding"} & set(Headers(scope=scope))
        self.status: int | None = None
        self.time_left: asyncio.Timeout | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.whole = True
        elif message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self._share.held + size > self._most:
                raise HTTPException(413, _too_large(self._most))
            try:
                self._share.take(size)
            except OverloadedError:
                # Give the bytes back before `_linger`: otherwise many uploads refuse each other.
                self._share.close()
                raise HTTPException(503, _FULL, headers=_RETRY) from None
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.time_left is not None and not self.time_left.expired():
                self.time_left.reschedule(None)  # `LimitedConnection` limits how long the client may read
            if message["status"] >= 400 and not self.whole:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        elif (self.status or 0) >= 400 and not self.whole and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def refuse(self, status: int, reason: str) -> None:
        headers = _RETRY if status == 503 else None
        await JSONResponse({"detail": reason}, status, headers)(self._scope, self.receive, self.send)

    async def _linger(self) -> None:
        """Read and discard what the sender still sends, for a limited time."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self.whole:
                    message = await self._receive()
                    self.whole = message["type"] != "http.request" or not message.get("more_body", False)
        except TimeoutError:
            pass


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(_OPEN_FOLDERS)


def _names_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name in ("localhost", "127.0.0.1", "[::1]")


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser states that another site's page sends the request; scripts send no such headers."""
    origin, host = headers.get("origin"), headers.get("host", "")
    elsewhere = origin is not None and origin.lower().rpartition("://")[2] != host.lower()
    return elsewhere or headers.get("sec-fetch-site", "").lower() == "cross-site"


def _too_large(most: int) -> str:
    size = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    return f"the body of the request is larger than {size}"
