"""Connections with time limits for headers and readers, and an answer to malformed requests."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from .limits import MAX_HEADER_BYTES
from .refusals import error_response

HEADER_TIMEOUT_S = 10.0
# Who asks must read: so many bytes in so much time, or the connection ends.
READ_BYTES, READ_TIMEOUT_S = 2**14, 20.0
PROBE_S = 2.0  # after which a client that has closed its half is asked whether it is there


class Reader:
    """A connection whose unsent bytes do not wait for ever for a client that reads nothing."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        transport.set_write_buffer_limits(high=0)  # every unsent byte pauses writing

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_read()
        super().connection_lost(exc)  # type: ignore[misc]

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._watch_reader()

    def resume_writing(self) -> None:
        self._has_read()
        super().resume_writing()  # type: ignore[misc]

    def _watch_reader(self, before: int | None = None) -> None:
        unsent = self.transport.get_write_buffer_size()
        if before is not None and before - unsent < READ_BYTES:
            self.transport.abort()
        else:
            self._unread = self.loop.call_later(READ_TIMEOUT_S, self._watch_reader, unsent)

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class LiveConnection(Reader, WebSocketsSansIOProtocol):
    """The WebSocket connection of uvicorn."""


class Connection(Reader, H11Protocol):
    """uvicorn's HTTP/1.1 connection, which waits for a request's headers only so long.

    uvicorn has no such limit: a client that sends a byte a minute would keep its socket.
    """

    _deadline: asyncio.TimerHandle | None = None
    _probe: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        if self._probe is not None:
            self._probe.cancel()
        super().connection_lost(exc)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep the connection of a client that closes its half to wait for the answer."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.cycle.more_body:
            self._probe = self.loop.call_later(PROBE_S, self._ask_whether_there)
            return True
        if answering or self.conn.trailing_data[0]:
            self._refuse(400, "The request ended before it was whole. Send all of it.")
        return None

    def _ask_whether_there(self) -> None:
        """Find out whether the client is still there: who waits ignores this line (RFC 9110, 15.2);
        who is gone resets the connection, which the next line finds out.
        """
        if self.conn.our_state is h11.SEND_RESPONSE and not self.cycle.response_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._probe = self.loop.call_later(PROBE_S, self._ask_whether_there)

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
        """Let the clock run unless a request is being answered."""
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
            head = h11.Response(status_code=status, headers=headers)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
