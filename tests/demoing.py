"""`tiny-audio demo` as its own process, and the pictures of it in the documents.

python tests/demoing.py docs/images [runs/answers/model runs/questions/held-out-describe-0a.flac]

The model and the clip of the second picture are those of chapter 8.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import browser
import httpx
import toys

CLIP = toys.samples()[2][0]
DONE = "#downloads:not([hidden]), #text .soft, #failure:not([hidden])"
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


class Demo:
    """A server of the page; its uploads lie under `folder`."""

    def __init__(self, folder, *arguments):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, "demo", "--port", str(port), *arguments],
            env={**os.environ, "PYTHONPATH": str(toys.REPOSITORY), "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                httpx.get(self.url, timeout=60)
                return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(self.end())

    def end(self):
        """SIGTERM; returns the exit code and what was printed."""
        self.process.send_signal(signal.SIGTERM)
        printed = self.process.communicate(timeout=240)[0].decode()
        return self.process.returncode, printed


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


def picture(url, path):
    """The page as the guide shows it: a word is being said."""
    with browser.browse({"width": 1280, "height": 640}) as page:
        page.goto(url)
        transcribe(page, CLIP)
        page.click(".word >> nth=4")
        page.wait_for_timeout(250)
        page.eval_on_selector("#sound", "sound => sound.pause()")
        page.mouse.move(0, 0)
        page.screenshot(path=path)


def pictures_of_asking(url, clip, folder):
    """A task's button was clicked: as a wide window shows it, and as a phone does."""
    for size, viewport in {"wide": browser.WIDE, "phone": browser.PHONE}.items():
        with browser.browse(viewport) as page:
            page.goto(url)
            choose(page, clip)
            page.click("#tasks button >> nth=0")
            page.wait_for_selector("#answer:not([hidden])")
            assert browser.overflow(page) <= 0
            page.screenshot(path=folder / f"demo-ask-{size}.png", full_page=True)


if __name__ == "__main__":
    images, *asked = map(Path, sys.argv[1:])
    demo = Demo("/tmp", *(["--model", str(asked[0])] if asked else []))
    try:
        if asked:
            pictures_of_asking(demo.url, asked[1], images)
        else:
            picture(demo.url, images / "demo-transcribe.png")
    finally:
        demo.end()
