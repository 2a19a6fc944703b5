"""The gate before the application: it checks token, slots, and the size and speed of bodies."""

import asyncio
import hmac
import math
import time
from collections.abc import MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .address import is_loopback
from .counters import Metrics
from .limits import MAX_HEADER_BYTES, Limits
from .refusals import Refusal

OPEN_TO_ALL = ("/health", "/")  # the page holds no secret, and asks for the token
# A body of JSON is in memory as bytes, as text, as its values, and once more as decoded base64;
# a form goes to the disk.
JSON_COPIES = 4


class Guard:
    """ASGI middleware. A request that gets past it holds a slot until it is answered."""

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        token: str | None,
        metrics: Metrics,
        origins: Sequence[str] = (),
    ) -> None:
        self.app, self.limits, self.token, self.metrics = app, limits, token, metrics
        self.origins = origins
        self.num_accepted = 0
        self.in_flight = _InFlight(
            max(limits.max_bytes_in_flight, JSON_COPIES * limits.max_body_bytes)
        )
        self.usual_s = 1.0  # moving average of how long an answer takes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self._websocket(scope, receive, send)
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        answer = _Answer(_Body(receive, self.limits, self.in_flight, _copies(scope)), send)
        started = time.monotonic()
        try:
            await self._http(scope, answer)
        finally:
            answer.body.forget()
            self.metrics.answered(scope["path"], answer.status, time.monotonic() - started)

    async def _http(self, scope: Scope, answer: "_Answer") -> None:
        try:
            self._check(scope)
        except Refusal as refusal:
            await refusal.response()(scope, answer.body, answer)
            return
        if scope["method"] != "POST":
            await self.app(scope, answer.body, answer)
            return
        started = time.monotonic()
        self.num_accepted += 1
        try:
            with self.metrics.in_flight.track_inprogress():
                await self.app(scope, answer.body, answer)
        finally:
            self.num_accepted -= 1
            self.usual_s += 0.1 * (time.monotonic() - started - self.usual_s)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check_site(scope)
            self._check_token(scope)
        except Refusal:  # before it is accepted: the client sees HTTP 403
            await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        else:
            await self.app(scope, receive, send)

    def _check_site(self, scope: Scope) -> None:
        """Refuse what another site's page sends through a browser, unless there is a token."""
        if self.token is not None:
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not is_loopback(host):
            message = f"Host: {host[:200]!r} is not this machine"
            cure = "Use http://127.0.0.1 or http://localhost, or start the server with a token"
            raise Refusal(403, f"{message}. {cure}.")
        known = (f"http://{host}", f"https://{host}", *self.origins)
        if origin is not None and origin not in known:
            message = f"Origin: {origin[:200]!r} is another site's page"
            raise Refusal(403, f"{message}. Allow it with --allow-origin, or ask from here.")

    def _check_token(self, scope: Scope) -> None:
        if scope["path"] not in OPEN_TO_ALL and not self._knows_token(scope):
            raise Refusal(401, "This server needs its token: send Authorization: Bearer TOKEN.")

    def _check(self, scope: Scope) -> None:
        self._check_site(scope)
        self._check_token(scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADER_BYTES:
            raise Refusal(431, f"Headers take at most {MAX_HEADER_BYTES:,} bytes.")
        if scope["method"] != "POST":
            return
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            refusal = Refusal(
                400, "A body has a Content-Length or comes in chunks. Send one of both."
            )
            refusal.headers = {"connection": "close"}  # servers differ in where such a body ends
            raise refusal
        size, limit = headers.get("content-length", "0"), self.limits.max_body_bytes
        if size.isdigit() and int(size[:20]) > limit:
            raise _too_large(int(size[:20]), limit)
        self.in_flight.check(int(size) * _copies(scope) if size.isdigit() else 0)
        if self.num_accepted >= self.limits.max_requests:
            wait_s = min(30, math.ceil(self.usual_s))
            message = f"{self.num_accepted} requests are being answered already"
            raise Refusal(503, f"{message}. Try again in {wait_s} s.", retry_after_s=wait_s)

    def _knows_token(self, scope: Scope) -> bool:
        if self.token is None:
            return True
        given = Headers(scope=scope).get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode("latin-1"), self.token.encode())  # constant time


def _copies(scope: Scope) -> int:
    kind = Headers(scope=scope).get("content-type", "")
    return 1 if kind.startswith("multipart/form-data") else JSON_COPIES


class _InFlight:
    """The bytes that bodies of unanswered requests take, all together."""

    def __init__(self, limit: int) -> None:
        self.limit, self.num_bytes = limit, 0

    def check(self, more: int) -> None:
        """Refuse `more` bytes while there is no room for them."""
        if self.num_bytes and self.num_bytes + more > self.limit:
            message = f"Requests of {self.num_bytes:,} bytes are being answered already"
            raise Refusal(503, f"{message}. Try again in 10 s.", retry_after_s=10)


def _too_large(num_bytes: int, limit: int) -> Refusal:
    return Refusal(413, f"A body of {num_bytes:,} bytes; the limit is {limit:,}. Send less.")


class _Body:
    """The `receive` of one request: it counts bytes, and refuses a body that comes too slowly."""

    def __init__(self, receive: Receive, limits: Limits, in_flight: _InFlight, copies: int) -> None:
        self.receive, self.limits, self.in_flight, self.copies = receive, limits, in_flight, copies
        self.num_bytes, self.held, self.ended, self.too_slow = 0, 0, False, False
        self.deadline = time.monotonic() + limits.body_timeout_s

    async def __call__(self) -> Message:
        if self.ended:
            return await self.receive()  # which comes when the client goes
        message = await self._next()
        if self.num_bytes > self.limits.max_body_bytes:
            raise _too_large(self.num_bytes, self.limits.max_body_bytes)
        more = len(message.get("body", b"")) * self.copies
        try:
            self.in_flight.check(more)
        except Refusal:
            self.forget()  # at once, so that not all who come together are refused
            raise
        self.in_flight.num_bytes += more
        self.held += more
        return message

    def forget(self) -> None:
        """Free the bytes of a request that is answered."""
        self.in_flight.num_bytes -= self.held
        self.held = 0

    async def _next(self) -> Message:
        patience_s = min(self.limits.body_idle_s, self.deadline - time.monotonic())
        try:
            async with asyncio.timeout(patience_s):
                message = await self.receive()
        except TimeoutError as error:
            self.too_slow = True
            limit = f"a pause of {self.limits.body_idle_s:g} s, {self.limits.body_timeout_s:g} s"
            raise Refusal(408, f"The body came too slowly; limits are {limit} in all.") from error
        self.num_bytes += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read the rest of the request before refusing it.

        A socket closed with unread bytes is reset, and the client never sees the reason.
        """
        most = self.num_bytes + 4 * self.limits.max_body_bytes
        while not (self.ended or self.too_slow) and self.num_bytes < most:
            try:
                await self._next()
            except Refusal:
                return


class _Answer:
    """The `send` of one request: it hangs up where the body was not read to its end."""

    def __init__(self, body: _Body, send: Send) -> None:
        self.body, self.send = body, send
        self.status = 0

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if not self.body.ended:
                await self.body.drain()
            if not self.body.ended:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        await self.send(message)
