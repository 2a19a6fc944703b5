"""Clients for tests of the service: in this process, or against a real one on the loopback."""

import base64
import io
import os
import signal
import socket
import subprocess
import sys
import time
import weakref
from pathlib import Path

import httpx
import soundfile
import toys

from tiny_audio.model.audio import load_audio

URL, CHAT = "/v1/audio/transcriptions", "/v1/chat/completions"


def talking_to(app):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60
    )


def wav(samples, rate=16_000):
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV")
    return out.getvalue()


def audio_part(data):
    sound = {"data": base64.b64encode(data).decode(), "format": "wav"}
    return {"type": "input_audio", "input_audio": sound}


def clip_part(path):
    return audio_part(wav(load_audio(path).samples.numpy()))


class Server:
    """`tiny-audio serve` as its own process; `environment` is added to ours."""

    def __init__(self, *arguments, environment=None, folder=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "tiny_audio", "serve", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(toys.REPOSITORY), **(environment or {})},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        weakref.finalize(self, self.process.kill)  # whatever a test comes to
        self.url = f"http://127.0.0.1:{self.port}"

    def ready(self, timeout_s=300):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                httpx.get(f"{self.url}/health", timeout=300).raise_for_status()
                return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.process.kill()
        raise AssertionError(self.process.stdout.read().decode())

    def metric(self, name):
        lines = httpx.get(f"{self.url}/metrics", timeout=300).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def end(self):
        """SIGTERM; returns the exit code and what was printed."""
        self.process.send_signal(signal.SIGTERM)
        printed = self.process.communicate(timeout=240)[0].decode()
        return self.process.returncode, printed

    def resident_bytes(self):
        """Of the process itself, without its decoders."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
