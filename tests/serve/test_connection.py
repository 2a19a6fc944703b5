"""Connections of a real server around an application of a few lines: readers, halves, lengths."""

import asyncio
import socket
import tempfile
import threading
import time

import pytest
import uvicorn
from fastapi import FastAPI

from tiny_audio.serve import connection
from tiny_audio.serve.address import bind
from tiny_audio.serve.counters import Metrics
from tiny_audio.serve.guard import Guard
from tiny_audio.serve.limits import Limits
from tiny_audio.serve.server import configured, own_folder

LIMITS = Limits(max_upload_bytes=2**20)
BIG = b"x" * 30_000_000  # more than the kernel's buffers take
HEAD = b"POST /%s HTTP/1.1\r\nHost: localhost\r\n"


class Served:
    """`tiny-audio serve`'s connections and gate, on a thread."""

    def __init__(self):
        self.gone = threading.Event()
        self.socket = bind("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        app = Guard(self.app, LIMITS, None, Metrics())
        self.server = uvicorn.Server(configured(app, LIMITS))
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],))
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    async def app(self, scope, receive, send):
        if scope["type"] == "lifespan":
            return
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/wait":
            gone = asyncio.create_task(receive())
            await asyncio.wait({gone}, timeout=20)
            if gone.done():
                self.gone.set()
                return
        if scope["path"] == "/slow":
            await asyncio.sleep(0.5)
        body = BIG if scope["path"] == "/big" else b"done"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    @property
    def num_open(self):
        return len(self.server.server_state.connections)

    def end(self):
        self.server.should_exit = True
        self.thread.join(timeout=60)


@pytest.fixture(scope="module")
def served():
    made = Served()
    yield made
    made.end()


@pytest.fixture
def line(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as opened:
        yield opened


def ask(line, path, body=b"ab", *headers, length=None):
    size = b"Content-Length: %d" % (len(body) if length is None else length)
    lines = b"".join(each + b"\r\n" for each in (size, *headers))
    line.sendall(HEAD % path + lines + b"\r\n" + body)


def answered(line):
    """Everything until the server hangs up, or says that it is done."""
    data = b""
    while b"done" not in data and (piece := line.recv(2**16)):
        data += piece
    return data


def within(seconds, happened):
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happened()


def test_an_answer_that_nobody_reads_is_not_kept(served, line, monkeypatch):
    """18 silent readers of 20 connections kept their answers for minutes."""
    monkeypatch.setattr(connection, "READ_TIMEOUT_S", 0.2)
    ask(line, b"big")
    assert within(10, lambda: served.num_open == 1)
    assert within(10, lambda: served.num_open == 0)


def test_a_slow_reader_gets_all_of_it(served, line, monkeypatch):
    monkeypatch.setattr(connection, "READ_TIMEOUT_S", 0.3)
    ask(line, b"big", b"", b"Connection: close")
    size = 0
    while piece := line.recv(2**20):
        size += len(piece)
        time.sleep(0.03)
    assert size > len(BIG)


def test_a_half_closed_request_is_answered(line):
    ask(line, b"slow")
    line.shutdown(socket.SHUT_WR)
    assert answered(line).startswith(b"HTTP/1.1 200")


def test_a_half_sent_request_is_told_so(line):
    ask(line, b"slow", b"ab", length=9)
    line.shutdown(socket.SHUT_WR)
    data = answered(line)
    assert data.startswith(b"HTTP/1.1 400")
    assert b"before it was whole" in data


def test_who_is_gone_and_does_not_wait_is_noticed(served, line, monkeypatch):
    """On the wire both begin alike."""
    monkeypatch.setattr(connection, "PROBE_S", 0.1)
    served.gone.clear()
    ask(line, b"wait")
    time.sleep(0.1)
    line.close()
    assert served.gone.wait(timeout=10)


def test_a_body_has_one_length(line):
    """Proxies and servers differ in which of the two counts: a second request hides in between."""
    chunked = b"5\r\nhello\r\n0\r\n\r\n"
    ask(line, b"x", chunked, b"Transfer-Encoding: chunked", length=3)
    data = answered(line)
    assert data.startswith(b"HTTP/1.1 400")
    assert b"Send one of both" in data
    assert b"connection: close" in data.lower()


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with own_folder() as living:
        left = tmp_path / "tiny-audio-serve-killed"
        left.mkdir()
        (left / "lock").touch()
        (left / "3.f32").write_bytes(b"somebody's voice")
        with own_folder():
            assert not left.exists()
            assert living.exists()
    assert not list(tmp_path.iterdir())


def test_a_second_ctrl_c_prints_no_traceback(capfd):
    bound = bind("127.0.0.1", 0)
    server = uvicorn.Server(configured(FastAPI(), LIMITS))
    server.should_exit = server.force_exit = True  # what a second Ctrl-C leaves behind
    server.run([bound])
    assert capfd.readouterr().err == ""
