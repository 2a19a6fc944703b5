"""`tiny-audio demo` as its own process, and the pictures of it in the documents.

PYTHONPATH=tests python -m demoing docs/images
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
DONE = ".ta-result, .ta-failure"
ANSWERED = "#talk .bot.message, #trouble .ta-failure"
# Looks up and connections that leave this machine, one a line on stdout.
WATCHED = """
import sys
def watch(event, given):
    host = {"socket.getaddrinfo": given[:1], "socket.connect": given[1:]}.get(event, [None])[0]
    host = host[0] if isinstance(host, tuple) else host
    if host not in (None, "127.0.0.1", "localhost"):
        print("outside:", host, flush=True)
sys.addaudithook(watch)
from tiny_audio.cli import main
main()
"""


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Demo:
    """A server of the page; its uploads lie under `folder`."""

    def __init__(self, folder, *arguments):
        port = free_port()
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
                httpx.get(self.url)
                return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(self.end())

    def end(self):
        """SIGTERM; returns the exit code and what was printed."""
        self.process.send_signal(signal.SIGTERM)
        printed = self.process.communicate(timeout=240)[0].decode()
        return self.process.returncode, printed


def choose(page, path, where="#clip"):
    """Upload a file, as the browser's dialog would."""
    page.set_input_files(f"{where} input[type=file]", path)
    page.wait_for_selector(f"{where} :is(audio, .waveform-container)", state="attached")
    # The button is pressed by people who see the clip; what they see comes after the upload.
    page.wait_for_selector(f"{where} [aria-label=Clear]")


def press(page, name, where):
    """Press a button and wait for its result."""
    page.click(f"button#{name}")
    page.wait_for_selector(f"#{where} :is({DONE})", timeout=180_000)


def transcribe(page, path):
    choose(page, path)
    press(page, "transcribe", "result")
    return page.inner_text("#result :is(.ta-said, .ta-failure)")


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def say(page, text):
    """Send a message and wait for the end of its answer, or why there is none."""
    seen = page.locator(ANSWERED).count()
    page.fill("#message textarea", text)
    page.press("#message textarea", "Enter")
    page.wait_for_function(f"document.querySelectorAll('{ANSWERED}').length > {seen}")
    page.wait_for_timeout(600)  # it may still grow


def pictures(url, folder):
    """The three tabs as the guide shows them."""
    with browser.browse({"width": 1280, "height": 720}) as page:
        page.goto(url)
        transcribe(page, CLIP)
        page.click(".ta-word >> nth=4")
        page.wait_for_timeout(250)
        page.eval_on_selector("audio.ta-sound", "sound => sound.pause()")
        page.mouse.move(0, 0)
        page.screenshot(path=folder / "demo-transcribe.png")
        tab(page, "Text")
        say(page, "the meeting is on")
        page.mouse.move(0, 0)
        page.screenshot(path=folder / "demo-text.png")
        tab(page, "Explain")
        press_explain(page)
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / "demo-explain.png", full_page=True)


def press_explain(page):
    page.wait_for_selector("#explained [aria-label=Clear]")
    page.click("button#explain")
    page.wait_for_selector("#trace iframe, #trace .ta-failure", timeout=180_000)


if __name__ == "__main__":
    demo = Demo("/tmp")
    try:
        pictures(demo.url, Path(sys.argv[1]))
    finally:
        demo.end()
