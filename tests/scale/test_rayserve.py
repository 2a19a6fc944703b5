"""Two replicas on Ray Serve lose no answer while they are replaced. Needs the extra `ray`:

uv run --extra ray pytest tests/scale/test_rayserve.py -n0 -m slow
"""

import socket
import threading
import time

import httpx
import pytest
import toys
from serving import URL, wav

from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.saving import save
from tiny_audio.presets import load

pytestmark = pytest.mark.slow
CLIENTS = 4


@pytest.fixture
def ray_serve(monkeypatch):
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = pytest.importorskip("ray", reason="needs: pip install 'tiny-audio[ray]'")
    serve = pytest.importorskip("ray.serve", reason="needs: pip install 'tiny-audio[ray]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield serve, f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def test_no_answer_is_lost_while_replicas_are_replaced(ray_serve, tmp_path):
    serve, address = ray_serve
    from tiny_audio.scale.rayserve import app

    model = str(save(toys.toy_preset("nano").build(), tmp_path / "model", whole=True))
    (clip,) = toys.clips(16_000)
    upload = wav(clip.numpy())
    text = Transcriber(load(model)).transcribe(clip, sampling_rate=16_000).text
    assert text
    serve.run(app({"model": model, "names": ["first"], "replicas": "2"}))  # as the command line

    ended, answers = threading.Event(), []

    def ask():
        with httpx.Client(base_url=address, timeout=120) as client:
            while not ended.is_set():
                answers.append(client.post(URL, files={"file": ("a.wav", upload)}))

    clients = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    serve.run(app({"model": model, "names": ["second"], "replicas": 2}))  # returns once it is there
    time.sleep(2)
    ended.set()
    for client in clients:
        client.join()
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["text"] for answer in answers} == {text}
    with httpx.Client(base_url=address) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["second"]
        assert client.get("/v1/models", headers={"host": "else.example"}).status_code == 403
