"""The service for tests: in this process, as its own one on the loopback, and in a browser."""

import base64
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx
import toys
from sounds import encode

from tiny_audio.model.audio import load_audio

URL, CHAT = "/v1/audio/transcriptions", "/v1/chat/completions"
SERVE = (sys.executable, "-m", "tiny_audio", "serve")
# Looks up and connections that leave this machine, one a line on stdout.
WATCHED = """
import sys
def watch(event, given):
    host = {"socket.getaddrinfo": given[:1], "socket.connect": given[1:]}.get(event, [None])[0]
    host = host[0] if isinstance(host, tuple) else host
    if host not in (None, "127.0.0.1", "localhost") and not str(host).startswith("/"):
        print("outside:", host, flush=True)
sys.addaudithook(watch)
from tiny_audio.cli import main
main()
"""


def talking_to(app):
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60
    )


def wav(samples, rate=16_000):
    return encode(samples, rate)


def audio_part(data):
    sound = {"data": base64.b64encode(data).decode(), "format": "wav"}
    return {"type": "input_audio", "input_audio": sound}


def clip_part(path):
    return audio_part(wav(load_audio(path).samples.numpy()))


@contextmanager
def loopback(handler):
    """A server around a handler of requests, on a thread; its address is `url`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class Server:
    """A command that listens, as its own process; `environment` is added to ours."""

    def __init__(self, *arguments, command=SERVE, environment=None, folder=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port), *map(str, arguments)],
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


def demo(folder, *arguments):
    """`tiny-audio demo`, with its uploads under `folder`; it says whom it would ask elsewhere."""
    command = (sys.executable, "-c", WATCHED, "demo")
    return Server(*arguments, command=command, environment={"TMPDIR": str(folder)}).ready()


# The demo's page in a browser -------------------------------------------------------------------


def choose(page, path):
    """Give the page a file, as the browser's dialog would."""
    page.set_input_files("#file", path)
    page.wait_for_selector("#chosen:not([hidden])")


def press(page, name="transcribe"):
    """Press a button and wait until its work has ended."""
    page.click(f"button#{name}")
    page.wait_for_selector("#work", state="hidden", timeout=180_000)


def transcribe(page, path):
    choose(page, path)
    press(page)
    return page.inner_text("#failure:not([hidden]), #answer:not([hidden]) #text")
