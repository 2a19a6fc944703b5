"""`tiny-audio demo`: a page to try a model with."""

from __future__ import annotations

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands.options import Device, Dtype, Model
from tiny_audio.commands.serving import Door, Host, Language, Port, Token, TokenFile, start


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
    """Serve a web page on this machine: transcribe files or a microphone, and look inside."""
    from tiny_audio.serve.limits import OF_THE_PAGE

    door = Door(host, port, token, token_file)
    start("demo", model, door, OF_THE_PAGE, device, dtype, language, page=True)
