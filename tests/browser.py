"""Chromium for tests: what a page asked for, and what it complained about."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@contextmanager
def browse(viewport=WIDE, args=(), **options) -> Iterator:
    """A page whose `outside` requests and `complaints` are collected; skips without Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not there: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium of Debian; as root it starts without a sandbox only.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *args])
        page = browser.new_context(viewport=viewport, **options).new_page()
        page.set_default_timeout(120_000)  # what is slow is not what is wrong
        page.outside, page.complaints = [], []
        page.on("request", lambda request: note_outside(page, request.url))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: note_error(page, said))
        try:
            yield page
        finally:
            browser.close()


def note_outside(page, url: str) -> None:
    here = ("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost", "ws://127.0.0.1")
    if not url.startswith(here):
        page.outside.append(url)


def note_error(page, said) -> None:
    if said.type == "error":
        page.complaints.append(said.text)


def overflow(page) -> int:
    """Pixels by which a page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
