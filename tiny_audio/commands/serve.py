"""`tiny-audio serve`: an HTTP service that OpenAI's clients understand."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands.decoding import Device, Dtype, Model
from tiny_audio.commands.serving import (
    Host,
    Language,
    Port,
    Token,
    TokenFile,
    start,
)


def serve(
    model: Model = DEFAULT_MODEL,
    model_name: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Name by which clients ask for the model, for example whisper-1. Repeat it for "
                "more names."
            )
        ),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    token_file: TokenFile = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "Origin of a web page that may use the server, for example https://example.org. "
                "Repeat it for more."
            )
        ),
    ] = None,
    language: Language = "en",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    max_requests: Annotated[
        int,
        typer.Option(
            min=1,
            help=(
                "Requests accepted at a time; further ones are answered 503 with the time to "
                "try again."
            ),
        ),
    ] = 128,
    max_upload_mb: Annotated[
        float, typer.Option(min=0.001, help="Largest upload, in megabytes.")
    ] = 25.0,
    max_audio_s: Annotated[
        float, typer.Option(min=1, help="Longest audio in an upload, in seconds.")
    ] = 1_800.0,
    timeout_s: Annotated[
        float, typer.Option(min=1, help="Longest time for one answer, in seconds.")
    ] = 120.0,
) -> None:
    """Serve a model over HTTP: transcriptions, chat with audio, and live audio.

    OpenAI's clients understand it. SIGTERM ends it after everything accepted is answered.
    """
    from tiny_audio.serve.limits import Limits

    limits = Limits(
        max_requests=max_requests,
        max_upload_bytes=int(max_upload_mb * 2**20),
        max_audio_s=max_audio_s,
        request_timeout_s=timeout_s,
    )
    start(
        "serve",
        model,
        model_name or [],
        language=language,
        device=device,
        dtype=dtype,
        host=host,
        port=port,
        token=token,
        token_file=token_file,
        limits=limits,
        origins=allow_origin or [],
        page=False,
    )
