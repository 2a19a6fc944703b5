"""`tiny-audio transcribe`: files to text."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tiny_audio.commands import fail, refusing, say
from tiny_audio.progress import progress

if TYPE_CHECKING:
    from tiny_audio.infer.results import Transcript


class Format(StrEnum):
    """How a transcript is printed."""

    text = "text"
    json = "json"


def transcribe(
    files: Annotated[list[str], typer.Argument(help="Audio files of any length; - is stdin.")],
    model: Annotated[str, typer.Option(help="nano, a checkpoint folder, or a Hub id.")] = "nano",
    prompt: Annotated[
        str | None, typer.Option(help="What to ask instead of the model's own instruction.")
    ] = None,
    format: Annotated[
        Format, typer.Option(help="One line or one JSON object per file.")
    ] = Format.text,
    channel: Annotated[
        int | None, typer.Option(help="Take this channel (from 0) instead of the mean of all.")
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Take what is readable of a damaged file.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
) -> None:
    """Turn audio files into text. Exit code 1 if any file failed; the others are still printed."""
    from tiny_audio.infer.transcriber import Transcriber
    from tiny_audio.model.errors import TinyAudioError

    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        transcriber = Transcriber.from_pretrained(model, device=device)
    options: dict[str, Any] = {
        "prompt": prompt,
        "channel": channel,
        "allow_truncated": allow_truncated,
    }
    failed = 0
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(files))
        for name in files:
            try:
                source = sys.stdin.buffer if name == "-" else Path(name)
                emit(name, transcriber.transcribe(source, **options), format, bar.console)
            except TinyAudioError as error:
                failed += 1
                fail(name, error)
                if format is Format.json:
                    typer.echo(json.dumps({"file": name, "error": str(error)}))
            bar.advance(task)
    if failed:
        raise typer.Exit(1)


def emit(name: str, transcript: Transcript, format: Format, console: Console) -> None:
    """Print one result on stdout; what a reader must know besides goes to stderr."""
    if format is Format.json:
        print(json.dumps({"file": name, **transcript.to_dict()}, ensure_ascii=False), flush=True)
        return
    ending = f"[{transcript.outcome.replace('_', ' ')}]"
    print(" ".join(transcript.text.split()) or ending, flush=True)  # one line per file
    for note in transcript.notes:
        say(f"{name}: {note}", "yellow", console)
    if not transcript.complete:
        say(f"{name}: the text may not be whole ({transcript.outcome})", "yellow", console)
