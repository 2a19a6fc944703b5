"""Connections: headers are bounded and do not take for ever, and malformed ones learn why."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import MAX_HEADER_BYTES
from .refusals import error_response

HEADER_TIMEOUT_S = 10.0


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, which waits for a request's headers only so long.

    uvicorn has no such limit: a client that sends a byte a minute would keep its socket.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._unwatch()
        self.upgraded = True
        super().handle_websocket_upgrade(event)

    upgraded = False

    def _watch(self) -> None:
        """The clock runs unless a request is being answered."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering or self.upgraded:
            self._unwatch()
        elif self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(HEADER_TIMEOUT_S, self._too_slow)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        limit = f"No whole request header within {HEADER_TIMEOUT_S:g} s"
        self._refuse(408, f"{limit}. Connect when you have something to ask.")

    def send_400_response(self, msg: str) -> None:
        limit = f"Headers take at most {MAX_HEADER_BYTES:,} bytes"
        self._refuse(400, f"{msg} {limit}, and must be HTTP/1.1.")

    def _refuse(self, status: int, message: str) -> None:
        """Say why and hang up; in the middle of an answer just hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error_response(status, message)
            headers: list[Any] = [*answer.raw_headers, (b"connection", b"close")]
            said = h11.Response(status_code=status, headers=headers)
            for event in (said, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
