"""A server of another make, spoken to over a real socket."""

import json
import time
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest
import torch
import toys
from serving import loopback

from tiny_audio.evaluate.endpoint import Endpoint
from tiny_audio.evaluate.rivals import system
from tiny_audio.model.audio import load_audio
from tiny_audio.model.errors import ConfigError


class Server(BaseHTTPRequestHandler):
    """Answers with what it was sent; the model's name says how it behaves."""

    seen: ClassVar[list] = []

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parts = BytesParser().parsebytes(head + raw).get_payload()
        fields = {p.get_param("name", header="content-disposition"): p for p in parts}
        audio = load_audio(fields["file"].get_payload(decode=True)).samples
        model = fields["model"].get_payload().strip()
        prompt = fields["prompt"].get_payload().strip() if "prompt" in fields else ""
        key = self.headers.get("Authorization")
        self.seen.append({"path": self.path, "audio": audio, "key": key, "prompt": prompt})
        if model == "slow":
            time.sleep(1)
            return  # by then nobody listens
        text = {"silent": " ", "null": None}.get(model, f"{len(audio)} samples {prompt}")
        body = json.dumps({"text": text}).encode()
        body = {"html": b"<html>", "list": b"[]", "missing": b"{}"}.get(model, body)
        self.send_response({"broken": 503, "moved": 302}.get(model, 200))
        if model == "moved":
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def url():
    with loopback(Server) as server:
        yield f"{server.url}/v1"


def test_clips_arrive_whole_and_answers_come_back_in_order(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    clips = [clip.clamp(-1, 1) for clip in toys.clips(*range(4000, 4600, 100))]
    answers = system(f"openai:{url}#echo").answer(clips, ["", "", "", "spell it", "", ""])
    assert [a.text for a in answers] == [
        f"{n} samples{' spell it' if n == 4300 else ''}" for n in range(4000, 4600, 100)
    ]
    assert {a.outcome for a in answers} == {"ok"}
    first = next(s for s in Server.seen if len(s["audio"]) == 4000)
    assert first["path"] == "/v1/audio/transcriptions"
    assert first["key"] == "Bearer sesame"
    torch.testing.assert_close(first["audio"], clips[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("broken", "HTTP 503"),
        ("moved", "HTTP 302"),
        ("html", "no JSON"),
        ("list", "no JSON"),
        ("missing", "no JSON"),
        ("null", "None"),
    ],
)
def test_what_is_no_transcript_is_an_error(url, model, said):
    (answer,) = Endpoint(url, model).answer(toys.clips(4000), [""])
    assert (answer.text, answer.outcome) == (None, "error")
    assert said in answer.error


def test_silence_slowness_and_absence_are_told_apart(url):
    clips = toys.clips(4000)
    assert Endpoint(url, "silent").answer(clips, [""])[0][:2] == ("", "no_speech")
    slow = Endpoint(url, "slow", timeout_s=0.2).answer(clips, [""])[0]
    assert (slow.text, slow.outcome) == (None, "error")
    assert "timed out" in slow.error
    gone = Endpoint("http://127.0.0.1:9/v1", "any").answer(clips, [""])[0]
    assert (gone.text, gone.outcome) == (None, "error")


def test_about_names_the_server_and_no_key(url, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    about = Endpoint(url, "echo").about()
    assert about["name"] == f"openai:{url}#echo"
    assert "sesame" not in json.dumps(about)


@pytest.mark.parametrize(
    "name", ["openai:", "openai:http://x/v1", "openai:#m", "openai:ftp://x#m", "openai:x#m", "hf:"]
)
def test_names_without_an_address_or_a_model_are_refused(name):
    with pytest.raises(ConfigError):
        system(name)


def test_a_key_in_the_address_is_refused():
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Endpoint("http://me:secret@host/v1", "m")
