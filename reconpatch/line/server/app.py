"""The application put together, and the process that serves it."""

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from reconpatch.line.server.connection_limits import limited_connection
from reconpatch.line.server.invalid_request import answer_invalid
from reconpatch.line.server.model_source import ModelSource
from reconpatch.line.server.request_guard import RequestGuard
from reconpatch.line.server.routes import make_router
from reconpatch.line.server.server_options import ServerOptions
from reconpatch.line.server.server_state import ServerState

_log = logging.getLogger(__name__)
# Of the requests under way at the end: an honest image needs a tenth.
_DECODING_SECONDS = 10.0
_NOT_STARTED = 3  # the status that uvicorn ends with
_STATIC = Path(__file__).parent / "static"
_DESCRIPTION = "Scores images with fitted ReConPatch detectors. The page for people is at [/](/)."
# The page needs nothing from elsewhere, and nothing else may be loaded into it.
_PAGE_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'"


def create_app(state: ServerState) -> FastAPI:
    """The application over loaded models."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with state.running():
            yield

    app = FastAPIOffline(title="reconpatch", description=_DESCRIPTION, redoc_url=None, lifespan=lifespan)
    app.include_router(make_router(state))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(
            _STATIC / "index.html",
            headers={"Content-Security-Policy": _PAGE_POLICY, "X-Content-Type-Options": "nosniff"},
        )

    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_middleware(RequestGuard, options=state.options, metrics=state.metrics, held=state.bytes)
    return app


def serve(sources: Sequence[ModelSource], options: ServerOptions) -> None:
    """Load the models, then answer requests until SIGINT or SIGTERM; requests under way are answered first.

    Raises:
        ModelError: a model cannot be loaded, or fails its self-test.
    """
    state = ServerState(sources, options)
    app = create_app(state)
    config = uvicorn.Config(
        app,
        http=limited_connection(options.limits),
        ws="none",
        host=options.host,
        port=options.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(options.limits.seconds) + 1,
    )
    server = _Server(config, state)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(_NOT_STARTED)


class _Server(uvicorn.Server):
    """Says where it listens, once it does; at its end it does not wait for images that are hard to decode."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            address, port = self.servers[0].sockets[0].getsockname()[:2]
            host = f"[{address}]" if ":" in address else address
            _log.info("the page and the API are at http://%s:%d", host, port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(_DECODING_SECONDS, self._state.decoder.close)
        await super().shutdown(sockets)
