"""Live audio over a WebSocket: what was said is what a file would give; errors say why."""

import json
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tiny_audio.infer.results import Segment, ending_notes
from tiny_audio.model.audio import load_audio
from tiny_audio.serve.limits import Limits
from tiny_audio.serve.live import HALF

PATH = "ws://127.0.0.1/v1/audio/stream"
END = json.dumps({"type": "end"})


@pytest.fixture(scope="module")
def client(app):
    return TestClient(app)


def pcm(path):
    return (load_audio(path).samples.numpy() * 32767).astype("<i2").tobytes()


def spoken(client, data, piece=16_001):
    """All events of a session; pieces of an odd size cut samples in two."""
    with client.websocket_connect(PATH) as socket:
        for at in range(0, len(data), piece):
            socket.send_bytes(data[at : at + piece])
        socket.send_text(END)
        events = []
        while not events or events[-1]["type"] not in ("done", "error"):
            events.append(socket.receive_json())
    return events


@pytest.mark.slow
def test_a_stream_ends_in_the_text_of_the_file(client, nano, clips):
    path = next(iter(clips))
    events = spoken(client, pcm(path))
    finals = [event["text"] for event in events if event["type"] == "final"]
    assert events[-1] == {"type": "done", "text": " ".join(filter(None, finals))}
    samples = np.frombuffer(pcm(path), "<i2")
    assert events[-1]["text"] == nano.transcribe(samples, sampling_rate=16_000).text
    assert any(event["type"] == "partial" for event in events)


def test_a_session_may_be_empty(client):
    assert spoken(client, b"") == [{"type": "done", "text": ""}]


def test_half_a_sample_at_the_end_is_noted(client):
    assert spoken(client, bytes(2_001))[-1]["notes"] == [HALF]


@pytest.mark.parametrize("text", ["{", "null", '{"type": "stop"}', "[" * 100_000])
def test_other_messages_end_it_with_a_reason(client, text):
    with client.websocket_connect(PATH) as socket:
        socket.send_text(text)
        assert "binary messages" in socket.receive_json()["error"]["message"]
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_options_that_are_none_are_refused_and_not_passed_over(client):
    with client.websocket_connect(f"{PATH}?samplerate=48000") as socket:
        said = socket.receive_json()["error"]["message"]
        assert said == "There is no option 'samplerate'. Known: sample_rate."
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_the_end_says_what_was_left_out_and_what_may_not_be_whole(client, service, monkeypatch):
    withheld = Segment(0, 1, "", "no_speech", -3.0, (), "hm")
    monkeypatch.setattr(service.transcriber, "transcribe_windows", lambda *_, **__: [withheld])
    (note,) = spoken(client, np.ones(4_000, "<i2").tobytes())[-1]["notes"]
    assert 'too unsure: "hm" (0.0 to 1.0 s)' in note
    assert ending_notes([Segment(2, 3.5, "a", "loop", None), Segment(4, 5, "b", "ok", None)]) == [
        "The text may not be whole: 2.0 to 3.5 s (loop)."
    ]


def test_limits_of_time_and_number(client, service, monkeypatch):
    monkeypatch.setattr(service, "limits", Limits(live_idle_s=0.05, max_live_s=1, max_live=1))
    with client.websocket_connect(PATH) as socket:
        assert "0.05 s" in socket.receive_json()["error"]["message"]
    long = np.zeros(20_000, "<i2").tobytes()
    assert "1 s" in spoken(client, long, len(long))[-1]["error"]["message"]
    monkeypatch.setattr(service, "num_live", 1)
    with client.websocket_connect(PATH) as socket:
        assert "Try again" in socket.receive_json()["error"]["message"]


@pytest.mark.parametrize(("data", "said"), [(b"", "Nothing came"), (b"\0\0", "lasts at most")])
def test_messages_do_not_keep_a_session_for_ever(client, service, monkeypatch, data, said):
    """Neither empty ones, nor a sample now and then."""
    limits = Limits(live_idle_s=0.3, max_live_s=0.3)
    monkeypatch.setattr(service, "limits", limits)
    with client.websocket_connect(PATH) as socket:
        for _ in range(20):
            socket.send_bytes(data)
            time.sleep(0.05)
        assert said in socket.receive_json()["error"]["message"]


def test_a_client_that_hangs_up_frees_its_place(client, service, clips):
    with client.websocket_connect(PATH) as socket:
        socket.send_bytes(pcm(next(iter(clips)))[:40_000])
    assert spoken(client, b"")[-1]["type"] == "done"
    assert service.num_live == 0
