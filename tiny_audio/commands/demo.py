"""`tiny-audio demo`: a page to try a model with."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio.commands import refusing, say


def demo(
    model: Annotated[str, typer.Option(help="nano, a checkpoint folder, or a Hub id.")] = "nano",
    host: Annotated[str, typer.Option(help="Another than this machine needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 7860,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TINY_AUDIO_TOKEN", show_envvar=True, help="The password that visitors give."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
) -> None:
    """Open a page on this machine: transcribe files or a microphone, write, look inside."""
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from tiny_audio.serve.address import check_address

        check_address(host, token)
        try:
            from tiny_audio.serve.demo import serve
        except ModuleNotFoundError as error:
            from tiny_audio.model.errors import MissingExtra

            raise MissingExtra("tiny-audio demo", "demo") from error
        from tiny_audio.infer.transcriber import Transcriber
        from tiny_audio.serve.desk import Desk

        desk = Desk(Transcriber.from_pretrained(model, device=device), model)
        say(f"{model} is on http://{host}:{port} (Ctrl-C ends it)")
        serve(desk, host, port, token)
