"""`tiny-audio serve` as its own process: the official client, signals, lost and hostile clients."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import httpx
import pytest
import soundfile
import toys
from hostile.hostile_requests import form, hostile_requests, part, request, send_all
from serving import URL, Server, clip_part
from websockets.sync.client import connect

pytestmark = pytest.mark.slow
NUM_HOSTILE = int(os.environ.get("NUM_HOSTILE", "360"))  # benchmarks/serving.py sends 2,000

# Runs in every Python process of the server: each file that is opened goes to a list.
WATCH = """
import os, sys
seen = os.open(os.environ["OPENED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def watch(event, arguments):
    if event == "open" and not isinstance(arguments[0], int):
        path, _, flags = arguments
        wrote = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        os.write(seen, f"{'w' if wrote else 'r'} {os.fsdecode(path)!r}\\n".encode())
sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def server():
    made = Server().ready()
    yield made
    code, printed = made.end()
    assert code == 0, printed


@pytest.fixture
def client(server):
    import openai  # a second, which tests that need none of it do not wait for

    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def spoken():
    return toys.samples()


def test_the_official_client_transcribes_in_every_format(client, spoken):
    path, text = spoken[0]
    for wanted in ("json", "text", "srt", "verbose_json", "vtt"):
        with path.open("rb") as file:
            found = client.audio.transcriptions.create(
                file=file, model="nano", response_format=wanted
            )
        said = found if isinstance(found, str) else found.text
        assert text in " ".join(said.split())


def test_the_official_client_streams(client, spoken):
    path, text = spoken[0]
    with path.open("rb") as file:
        events = list(client.audio.transcriptions.create(file=file, model="nano", stream=True))
    assert "".join(e.delta for e in events[:-1]) == events[-1].text == text


def test_the_official_client_chats_with_audio(client, spoken):
    path, text = spoken[1]
    messages = [{"role": "user", "content": [clip_part(path)]}]
    whole = client.chat.completions.create(model="nano", messages=messages)
    assert whole.choices[0].message.content == text
    pieces = client.chat.completions.create(model="nano", messages=messages, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in pieces) == text


def test_the_official_client_lists_models_and_understands_refusals(client, spoken):
    import openai

    assert [model.id for model in client.models.list()] == ["nano"]
    with pytest.raises(openai.NotFoundError, match="use 'nano'"):
        client.models.retrieve("gpt-4o")
    with pytest.raises(openai.BadRequestError, match="not audio"):
        client.audio.transcriptions.create(file=b"junk", model="nano")


def test_live_audio_through_a_socket(server, spoken):
    path, text = spoken[0]
    samples, rate = soundfile.read(path, dtype="int16")
    url = f"{server.url.replace('http', 'ws')}/v1/audio/stream?sample_rate={rate}"
    with connect(url) as line:
        for at in range(0, len(samples), 3_200):
            line.send(samples[at : at + 3_200].tobytes())
        line.send(json.dumps({"type": "end"}))
        events = [json.loads(message) for message in line]
    assert events[-1] == {"type": "done", "text": text}


def test_clients_that_vanish_harm_nobody(server, spoken):
    """Half of them in the middle of an upload, half while they wait for a stream."""
    path, text = spoken[0]
    whole = request(form(part("file", path.read_bytes(), "a.flac"), part("stream", b"true")))
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(16)]
    for number, line in enumerate(lines):
        line.sendall(whole if number % 2 else whole[: len(whole) // 2])
    while server.metric("tiny_audio_requests_in_flight") < len(lines):
        time.sleep(0.02)
    for line in lines:
        line.close()
    answer = httpx.post(server.url + URL, files={"file": path.read_bytes()}, timeout=300)
    assert answer.json()["text"] == text
    while server.metric("tiny_audio_requests_in_flight"):
        time.sleep(0.02)


def test_sigterm_answers_everything_that_was_accepted(spoken):
    server = Server().ready()

    async def scenario():
        async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
            asked = [
                asyncio.create_task(client.post(URL, files={"file": path.read_bytes()}))
                for path, _ in spoken * 2
            ]
            while await asyncio.to_thread(server.metric, "tiny_audio_requests_in_flight") < 16:
                await asyncio.sleep(0.02)
            code, printed = await asyncio.to_thread(server.end)
            return [await task for task in asked], code, printed

    answers, code, printed = asyncio.run(scenario())
    assert [answer.json()["text"] for answer in answers] == [text for _, text in spoken * 2]
    assert code == 0, printed
    with pytest.raises(httpx.TransportError):
        httpx.get(server.url + "/health")


@pytest.fixture
def own():
    """A temporary folder whose sockets have short names, as the system wants them."""
    with tempfile.TemporaryDirectory(prefix="own-", dir="/tmp") as folder:
        yield Path(folder)


def test_hostile_requests_are_refused_and_no_file_is_touched(tmp_path, own, spoken):
    """Every file that any of its processes opens is listed while they come in."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(textwrap.dedent(WATCH))
    opened = tmp_path / "opened"
    environment = {
        "PYTHONPATH": f"{tmp_path / 'site'}:{toys.REPOSITORY}",
        "OPENED": str(opened),
        "TMPDIR": str(own),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    server = Server(environment=environment, folder=tmp_path).ready()
    path, text = spoken[0]
    post = {"files": {"file": path.read_bytes()}, "timeout": 300}
    first = httpx.post(server.url + URL, **post)  # imports are done
    assert first.json().get("text") == text, first.text
    opened.write_text("")
    wrong = asyncio.run(send_all("127.0.0.1", server.port, hostile_requests(NUM_HOSTILE)))
    assert not wrong, "\n".join(wrong)
    assert httpx.post(server.url + URL, **post).json()["text"] == text
    touched = [line.split(" ", 1) for line in opened.read_text().splitlines()]
    outside = {(how, name) for how, name in touched if str(own) not in name}
    foreign = {each for each in outside if each[0] == "w" or "etc" in each[1] or "ssh" in each[1]}
    assert not foreign
    code, printed = server.end()
    assert code == 0, printed
    assert not list(own.glob("tiny-audio-serve-*"))


def test_other_machines_need_a_token():
    command = [sys.executable, "-m", "tiny_audio", "serve", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, timeout=300)
    assert done.returncode == 2
    assert b"TINY_AUDIO_TOKEN" in done.stderr
