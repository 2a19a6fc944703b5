"""`tiny-audio serve`: an HTTP service that OpenAI's clients understand."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands.options import Device, Dtype, Model
from tiny_audio.commands.serving import Door, Host, Language, Port, Token, TokenFile, start

ModelName = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Name by which clients ask for the model, for example whisper-1. Repeat it for "
            "more names."
        )
    ),
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(
        help=(
            "Origin of a web page that may use the server, for example https://example.org. "
            "Repeat it for more."
        )
    ),
]
MaxRequests = Annotated[
    int,
    typer.Option(
        min=1,
        help=("Requests accepted at a time; others get 503 and the time after which to try again."),
    ),
]
MaxUpload = Annotated[float, typer.Option(min=0.001, help="Largest upload, in megabytes.")]
MaxAudio = Annotated[float, typer.Option(min=1, help="Longest audio in an upload, in seconds.")]
Timeout = Annotated[float, typer.Option(min=1, help="Longest time for one answer, in seconds.")]


def serve(
    model: Model = DEFAULT_MODEL,
    model_name: ModelName = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    token_file: TokenFile = None,
    allow_origin: AllowOrigin = None,
    language: Language = "en",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    max_requests: MaxRequests = 128,
    max_upload_mb: MaxUpload = 25.0,
    max_audio_s: MaxAudio = 1_800.0,
    timeout_s: Timeout = 120.0,
) -> None:
    """Serve a model over HTTP: transcriptions, chat with audio, and live audio.

    OpenAI's clients can use it. After SIGTERM it answers all accepted requests, and then ends.
    """
    from tiny_audio.serve.limits import Limits

    limits = Limits(
        max_requests=max_requests,
        max_upload_bytes=int(max_upload_mb * 2**20),
        max_audio_s=max_audio_s,
        request_timeout_s=timeout_s,
    )
    door = Door(host, port, token, token_file, allow_origin or [])
    start("serve", model, door, limits, device, dtype, language, model_name or [])
