"""The documentation site as a browser shows it: whole, searchable, readable on a phone."""

import functools
import http.server
import shutil
import subprocess
import sys
from pathlib import Path

import browser
import pages
import pytest
from serving import loopback

pytestmark = pytest.mark.docs


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site behind an address on this machine."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(pages.ROOT / "docs", folder / "docs")
    shutil.copy(pages.ROOT / "zensical.toml", folder)
    (folder / "tiny_audio").symlink_to(pages.ROOT / "tiny_audio")
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "No issues found" in built.stdout + built.stderr, built.stdout + built.stderr
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder / "site")
    with loopback(handler) as server:
        yield server.url


def address(site, page):
    return f"{site}/{page.removeprefix('docs/').removesuffix('.md')}.html"


def shown():
    return [page for page in pages.PAGES if page.startswith("docs/")]


def test_every_page_opens_without_errors_or_outside_requests(site, tmp_path):
    with browser.browse() as page:
        for name in shown():
            page.goto(address(site, name))
            assert page.locator("h1").first.inner_text(), name
            page.screenshot(path=tmp_path / f"{name.replace('/', '-')}.png")
        assert (page.outside, page.complaints) == ([], [])


def test_search_finds_a_function(site):
    with browser.browse() as page:
        page.goto(f"{site}/index.html")
        page.click(".md-search__button")
        page.get_by_role("combobox", name="Search").fill("load_audio")
        page.get_by_text("tiny_audio.model.audio.load_audio").first.wait_for()
        assert (page.outside, page.complaints) == ([], [])


def test_pages_fit_a_phone(site):
    with browser.browse(browser.PHONE) as page:
        for name in shown():
            page.goto(address(site, name))
            assert browser.overflow(page) <= 0, name
