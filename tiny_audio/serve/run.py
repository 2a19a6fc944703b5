"""The process: its socket, its signals, its temporary folder, and how it ends."""

import logging
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from socket import socket

import uvicorn
from starlette.types import ASGIApp

from tiny_audio.infer.transcriber import Transcriber

from .app import create_app
from .connection import Connection, LiveConnection
from .limits import MAX_HEADER_BYTES, Limits
from .service import Service

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
    with tempfile.TemporaryDirectory(prefix="tiny-audio-serve-") as folder:
        service = Service(transcriber, names, language, limits, Path(folder))
        config = configured(create_app(service, token, origins, page), limits)
        logging.getLogger("python_multipart").setLevel(logging.ERROR)
        # uvicorn raises the signal that ended it once more when all is done: it has been obeyed.
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, lambda *_: None)
        try:
            uvicorn.Server(config).run(sockets=[bound])
        finally:
            service.close()


def configured(app: ASGIApp, limits: Limits) -> uvicorn.Config:
    """uvicorn with our connections and bounds."""
    return uvicorn.Config(
        app,
        http=Connection,
        ws=LiveConnection,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a compressed message could be a bomb
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=int(limits.body_timeout_s + limits.request_timeout_s),
        access_log=False,
        log_level="error",  # a line for every malformed request would let them fill the disk
    )
