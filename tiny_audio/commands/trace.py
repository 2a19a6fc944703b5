"""`tiny-audio trace`: a clip's way through a model, as a page."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, say
from tiny_audio.commands.options import AllowTruncated, Channel, Device, Model, Prompt
from tiny_audio.files import write_text
from tiny_audio.progress import progress


def trace(
    file: Annotated[str, typer.Argument(help="Audio file of up to five minutes; - reads stdin.")],
    model: Model = DEFAULT_MODEL,
    prompt: Prompt = None,
    versus: Annotated[
        str | None, typer.Option(help="Second model to show beside the first.")
    ] = None,
    channel: Channel = None,
    allow_truncated: AllowTruncated = False,
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("data_trace.html"),
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    device: Device = "cpu",
) -> None:
    """Show all that happens to a clip, from its samples to the text, on one page."""
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from tiny_audio.infer.transcriber import Transcriber
        from tiny_audio.model.audio import load_audio
        from tiny_audio.scope.trace.page import render
        from tiny_audio.scope.trace.path import trace as follow

        source = sys.stdin.buffer if file == "-" else Path(file)
        audio = load_audio(source, channel=channel, allow_truncated=allow_truncated)
        names = [model] if versus is None else [model, versus]
        seen = []
        with progress() as bar:
            for name in bar.track(names, description="tracing"):
                writer = Transcriber.from_pretrained(name, device=device, merge=False)
                seen.append(
                    follow(writer.model, audio, prompt=prompt, name=name, transcriber=writer)
                )
        write_text(out, render(*seen))
    for note in audio.notes:
        say(f"{file}: {note}", "yellow")
    for one in seen:
        say(f"{one.model.name}: {one.text or '[nothing]'}")
    say(f"{out} ({out.stat().st_size / 1e6:.1f} MB): open it in a browser")
    if open_page:
        webbrowser.open(out.resolve().as_uri())
