"""`tiny-audio demo`: a page to try a model with."""

from __future__ import annotations

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


def demo(
    model: Model = DEFAULT_MODEL,
    host: Host = "127.0.0.1",
    port: Port = 7860,
    token: Token = None,
    token_file: TokenFile = None,
    language: Language = "en",
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Open a page on this machine: transcribe files or a microphone, read along, look inside."""
    from tiny_audio.serve.limits import OF_THE_PAGE

    start(
        "demo",
        model,
        [],
        language=language,
        device=device,
        dtype=dtype,
        host=host,
        port=port,
        token=token,
        token_file=token_file,
        limits=OF_THE_PAGE,
        origins=[],
        page=True,
    )
