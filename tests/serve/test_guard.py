"""The gate alone, before an application of a few lines: token, slots, size and pace of bodies."""

import asyncio
import json
from dataclasses import replace

import pytest

from tiny_audio.serve.counters import Metrics
from tiny_audio.serve.guard import Guard
from tiny_audio.serve.limits import Limits

LIMITS = Limits(max_upload_bytes=3_000, max_requests=2, body_idle_s=0.2, body_timeout_s=0.5)


async def echo(scope, receive, send):
    """Read the whole body, answer its length."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    await reply(send, str(size).encode())


async def refuse(scope, receive, send):
    """As `echo`, and an answer where the gate ends the body."""
    try:
        await echo(scope, receive, send)
    except Exception as error:
        await reply(send, b"{}", error.status_code)


async def reply(send, body, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": body})


class Client:
    """One request: `pieces` of its body come with `pause_s` between them."""

    def __init__(self, guard, pieces=(b"",), *, method="POST", path="/x", headers=(), pause_s=0.0):
        headers = dict([("host", "127.0.0.1:8000"), *headers]).items()
        self.guard, self.pieces, self.pause_s = guard, list(pieces), pause_s
        head = [(name.encode(), value.encode()) for name, value in headers]
        self.scope = {"type": "http", "method": method, "path": path, "headers": head}
        self.sent = []

    async def receive(self):
        await asyncio.sleep(self.pause_s)
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message):
        self.sent.append(message)

    async def run(self):
        await self.guard(self.scope, self.receive, self.send)
        return self

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return dict(self.sent[0]["headers"])

    @property
    def error(self):
        return json.loads(self.sent[1]["body"])["error"]


def guard(app=echo, token=None, limits=LIMITS):
    return Guard(app, limits, token, Metrics())


def run(gate, *pieces, **what):
    return asyncio.run(Client(gate, pieces or (b"",), **what).run())


def test_a_body_within_its_limits_comes_through():
    client = run(guard(), b"a" * 2_000, b"b" * 1_000)
    assert (client.status, client.sent[1]["body"]) == (200, b"3000")


def test_a_large_body_is_refused_by_its_header_and_by_its_bytes():
    size = str(LIMITS.max_body_bytes + 1)
    told = run(guard(), headers=[("content-length", size)])
    assert (told.status, told.error["code"]) == (413, "request_too_large")


def test_bytes_are_counted_where_no_length_was_announced():
    client = run(guard(refuse), *[b"x" * 10_000] * 9)
    assert client.status == 413
    assert not client.pieces, "the client is heard out, so that it reads the reason"


@pytest.mark.slow
@pytest.mark.parametrize(("pause_s", "pieces"), [(0.3, 3), (0.1, 20)])
def test_a_slow_body_ends(pause_s, pieces):
    client = run(guard(refuse), *[b"x"] * pieces, pause_s=pause_s)
    assert client.status == 408
    assert client.headers[b"connection"] == b"close"


def test_one_request_too_many_is_told_when_to_come_again_and_slots_are_given_back():
    gate, entered, leave = None, [], asyncio.Event()

    async def app(scope, receive, send):
        entered.append(scope)
        await leave.wait()
        await reply(send, b"")

    async def scenario():
        nonlocal gate
        gate = guard(app)
        held = [asyncio.create_task(Client(gate).run()) for _ in range(2)]
        while len(entered) < 2:
            await asyncio.sleep(0)
        refused = await Client(gate, [b"x" * 100]).run()
        seen = await Client(guard(echo), method="GET", path="/health").run()
        held.pop().cancel()  # a client that goes away
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        more = asyncio.create_task(Client(gate).run())
        while len(entered) < 3:
            await asyncio.sleep(0)
        leave.set()
        return refused, seen, await more, await held[0]

    refused, seen, *answered = asyncio.run(scenario())
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert int(refused.headers[b"retry-after"]) >= 1
    assert not refused.pieces
    assert {client.status for client in [seen, *answered]} == {200}
    assert gate.num_accepted == 0


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer ", "Bearer tokén", "token"])
def test_without_the_token_only_health_answers(given):
    headers = [("authorization", given)] if given else []
    gate = guard(token="the secret")
    assert run(gate, headers=headers).status == 401
    assert run(gate, method="GET", path="/metrics", headers=headers).status == 401
    assert run(gate, method="GET", path="/health", headers=headers).status == 200
    assert run(gate, headers=[("authorization", "Bearer the secret")]).status == 200


def test_a_websocket_needs_the_token_too():
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/v1/audio/stream", "headers": [(b"host", b"localhost")]}
    asyncio.run(guard(token="t")(scope, None, send))
    assert sent[0]["type"] == "websocket.close"


def test_bodies_in_flight_share_a_budget_and_give_it_back():
    """Twelve bodies of 33 MB in base64 took 2 GB."""
    limits = replace(LIMITS, max_requests=9, max_bytes_in_flight=1)  # so: of one JSON body
    leave, entered = asyncio.Event(), []

    async def app(scope, receive, send):
        await receive()
        entered.append(scope)
        await leave.wait()
        await reply(send, b"")

    async def scenario():
        gate = guard(app, limits=limits)
        size = limits.max_body_bytes
        first = asyncio.create_task(Client(gate, [b"x" * size]).run())
        while not entered:
            await asyncio.sleep(0)
        told = [("content-length", "100")]
        refused = await Client(gate, [b"x" * 100], headers=told).run()
        leave.set()
        await first
        again = await Client(gate, [b"x" * size], headers=told).run()
        return refused, again, gate.in_flight.num_bytes

    refused, again, held = asyncio.run(scenario())
    assert (refused.status, refused.error["code"]) == (503, "overloaded")
    assert int(refused.headers[b"retry-after"]) >= 1
    assert again.status == 200
    assert held == 0


def test_bytes_without_an_announced_length_count_as_they_come():
    async def scenario():
        gate = guard(refuse, limits=replace(LIMITS, max_requests=99, max_bytes_in_flight=1))
        asked = [Client(gate, [b"x" * 10_000] * 6, pause_s=0.01).run() for _ in range(8)]
        return [client.status for client in await asyncio.gather(*asked)]

    assert set(asyncio.run(scenario())) == {200, 503}
