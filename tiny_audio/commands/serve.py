"""`tiny-audio serve`: an HTTP service that OpenAI's clients understand."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio.commands import refusing, say


def serve(
    model: Annotated[str, typer.Option(help="nano, a checkpoint folder, or a Hub id.")] = "nano",
    host: Annotated[str, typer.Option(help="Another than this machine needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="TINY_AUDIO_TOKEN",
            show_envvar=True,
            help="The secret that clients send as their API key.",
        ),
    ] = None,
    language: Annotated[str, typer.Option(help="What the model writes.")] = "en",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
    max_requests: Annotated[
        int, typer.Option(min=1, help="Accepted at once; more get 503 and when to try again.")
    ] = 128,
    max_upload_mb: Annotated[float, typer.Option(min=0.001, help="Size of one upload.")] = 25.0,
    max_audio_s: Annotated[float, typer.Option(min=1, help="Length of one upload.")] = 1_800.0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Time for one answer.")] = 120.0,
) -> None:
    """Answer over HTTP: transcriptions, chat with audio, live audio; SIGTERM ends it in order."""
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        try:
            from tiny_audio.serve.run import serve as run
        except ModuleNotFoundError as error:
            from tiny_audio.model.errors import MissingExtra

            raise MissingExtra("tiny-audio serve", "serve") from error
        from tiny_audio.infer.transcriber import Transcriber
        from tiny_audio.serve.address import check_address
        from tiny_audio.serve.limits import Limits

        check_address(host, token)
        limits = Limits(
            max_requests=max_requests,
            max_upload_bytes=int(max_upload_mb * 2**20),
            max_audio_s=max_audio_s,
            request_timeout_s=timeout_s,
        )
        transcriber = Transcriber.from_pretrained(model, device=device)
        say(f"{model} listens on http://{host}:{port} (Ctrl-C ends it)")
        run(
            transcriber,
            model,
            language=language,
            host=host,
            port=port,
            token=token,
            limits=limits,
        )
