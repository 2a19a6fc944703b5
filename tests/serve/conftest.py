"""One service around nano for all in-process tests, and clips whose text is known."""

import asyncio
from pathlib import Path

import pytest
import toys
from serving import talking_to

from tiny_audio.presets import NANO
from tiny_audio.serve.app import create_app
from tiny_audio.serve.limits import Limits
from tiny_audio.serve.service import Service

SMALL = Limits(
    max_upload_bytes=2**22,
    max_audio_s=60,
    max_requests=6,
    body_idle_s=0.3,
    decode_timeout_s=5,
    decode_workers=1,
)


@pytest.fixture(scope="session")
def clips() -> dict[Path, str]:
    """Sample files and their texts: nano writes them without an error (a test of infer says so)."""
    return dict(toys.samples())


@pytest.fixture
def times_of_words():
    if not (NANO / "ctc").is_dir():
        pytest.skip(f"{NANO / 'ctc'} is not there: nano has no head for the times of words yet")


@pytest.fixture(scope="session")
def service(nano, tmp_path_factory, spawns_at_once):
    made = Service(nano, ["nano"], "en", SMALL, tmp_path_factory.mktemp("decoded"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def app(service):
    return create_app(service)


@pytest.fixture
def ask(app):
    """Send one request to the application, in this process."""

    def send(method, path, **what):
        return asyncio.run(one(app, method, path, **what))

    return send


async def one(app, method, path, **what):
    async with talking_to(app) as client:
        return await client.request(method, path, **what)
