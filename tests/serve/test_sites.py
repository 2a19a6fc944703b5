"""Pages of other sites, names of other machines, and where the token comes from."""

import asyncio
import socket

import pytest
from fastapi.testclient import TestClient
from serving import URL, talking_to
from starlette.websockets import WebSocketDisconnect
from typed import typed

from tiny_audio.model.errors import ConfigError
from tiny_audio.serve.address import check_origins, read_token
from tiny_audio.serve.app import create_app

FOREIGN = "https://evil.example"
LIVE = "ws://127.0.0.1/v1/audio/stream"


@pytest.fixture
def friendly(service):
    return create_app(service, origins=["https://app.example"])


def sent(app, method, path, **headers):
    async def one():
        async with talking_to(app) as client:
            files = {"file": b"junk"} if method == "POST" else None
            return await client.request(method, path, headers=headers, files=files)

    return asyncio.run(one())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),  # the file is junk: it came through
        ({"host": "localhost:8000"}, 400),
        ({"host": "[::1]:8000"}, 400),
        ({"host": "[::1"}, 403),
        ({"host": "evil.example"}, 403),  # a name that was pointed at this machine later
        ({"host": "127.0.0.1.evil.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://127.0.0.1"}, 400),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 400),
        ({"origin": "http://127.0.0.1:3000"}, 403),  # another server on this machine
        ({"origin": FOREIGN}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "x" * 9_000}, 403),
    ],
)
def test_without_a_token_only_this_machine_and_its_own_page_may_ask(app, headers, status):
    answer = sent(app, "POST", URL, **headers)
    assert answer.status_code == status, answer.text
    assert len(answer.text) < 1_000
    assert "access-control-allow-origin" not in answer.headers


def test_a_foreign_page_reads_no_socket(app, friendly):
    """WebSockets know no CORS: a browser lets every page open one."""
    client = TestClient(app)
    for headers in ({"origin": FOREIGN}, {"host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(LIVE, headers=headers) as line,
        ):
            line.receive_json()
    client = TestClient(friendly)
    with client.websocket_connect(LIVE, headers={"origin": "https://app.example"}) as line:
        line.send_text('{"type": "end"}')
        assert line.receive_json()["type"] == "done"


def test_an_origin_that_the_owner_names_may_read(friendly):
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
    }
    answer = sent(friendly, "OPTIONS", URL, **asked)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "authorization" in answer.headers["access-control-allow-headers"]
    answer = sent(friendly, "POST", URL, origin="https://app.example")
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    answer = sent(friendly, "POST", URL, origin=FOREIGN)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_with_a_token_the_token_decides(service):
    """Behind a proxy the Host is the proxy's; a foreign page does not know the secret."""
    app = create_app(service, "secret")
    host = {"host": "speech.example"}
    assert sent(app, "POST", URL, **host).status_code == 401
    assert sent(app, "POST", URL, authorization="Bearer secret", **host).status_code == 400


def test_a_token_lies_in_a_file(tmp_path):
    (tmp_path / "token").write_text("open sesame\n")
    assert read_token("other", tmp_path / "token") == "open sesame"
    assert read_token("", None) is None
    (tmp_path / "token").write_text(" \n")
    for name, why in (("token", "is empty"), ("none", "cannot be read")):
        with pytest.raises(ConfigError, match=why):
            read_token(None, tmp_path / name)


@pytest.mark.parametrize("origin", ["*", "app.example", "https://app.example/", "null", ""])
def test_an_origin_is_named_as_browsers_do(origin):
    with pytest.raises(ConfigError, match="for example"):
        check_origins([origin])


def test_a_port_that_cannot_be_had_is_a_sentence_before_anything_listens():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        used = taken.getsockname()[1]
        for port, said in ((used, f"Port {used}"), (70_000, "65535")):
            done = typed("serve", "--port", str(port))
            assert done.exit_code == 2
            assert said in done.output
            assert "listens on" not in done.output
            assert "Traceback" not in done.output
