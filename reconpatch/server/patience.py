"""Connections that send no request, or one without an end to its head, are closed after a while.

The application hears of a request only once its head is whole; up to there nobody else looks at the clock.
"""

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

_REFUSAL = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 39\r\n\r\nthe request's head did not come in time"
)


class PatientProtocol(H11Protocol):
    """Uvicorn's connection with a limit on the time to a request's whole head.

    Attributes:
        seconds: from the connection, or from the first byte of a further request on it.
    """

    seconds: ClassVar[float]
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait on until a head is whole."""
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop_waiting()
        elif self._waiting is None and (before is None or before.response_complete):
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to wait for any longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.seconds, self._refuse)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _refuse(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self.transport.write(_REFUSAL)
            self.transport.close()


def patient(seconds: float) -> type[PatientProtocol]:
    """The connection class with this limit, for ``uvicorn.run(http=...)``."""
    return type("PatientProtocol", (PatientProtocol,), {"seconds": seconds})
