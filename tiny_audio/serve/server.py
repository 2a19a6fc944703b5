"""The server's process: its socket, its signals, its temporary folder, and how it ends."""

import fcntl
import logging
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import socket

import uvicorn
from starlette.types import ASGIApp

from tiny_audio.infer.transcriber import Transcriber

from .app import create_app
from .connection import Connection, LiveConnection
from .limits import MAX_HEADER_BYTES, Limits
from .service import Service

PREFIX, LOCK = "tiny-audio-serve-", "lock"
MAX_CONNECTIONS = 1024
MAX_MESSAGE_BYTES = 2**20  # of a WebSocket: half a minute of audio


def serve(
    transcriber: Transcriber,
    names: Sequence[str],
    *,
    language: str,
    bound: socket,
    token: str | None,
    limits: Limits,
    origins: Sequence[str] = (),
    page: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; everything accepted until then is answered."""
    with own_folder() as folder:
        service = Service(transcriber, names, language, limits, folder)
        config = configured(create_app(service, token, origins, page), limits)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        server = uvicorn.Server(config)
        # uvicorn raises the signal that ended it once more when all is done, which changes nothing
        # then; one that comes before uvicorn listens for signals ends the server too.
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda *_: setattr(server, "should_exit", True))
        try:
            server.run(sockets=[bound])
        finally:
            service.close()


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a temporary folder for this server alone, and remove those of servers that were killed.

    A lock is held for as long as a process lives, however it ends.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), left.open() as lock:  # of another user, or of a server that lives
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with (folder / "new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (folder / "new").rename(folder / LOCK)  # it is never there without being held
            yield folder


def configured(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """Return uvicorn's configuration with our connections and bounds."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws=LiveConnection,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a compressed message could be a bomb
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        lifespan="off",  # the app has none, and a second Ctrl-C would print its end as a traceback
        timeout_graceful_shutdown=int(limits.body_timeout_s + limits.request_timeout_s),
        access_log=False,
        log_level="error",  # a line for every malformed request would let them fill the disk
    )
