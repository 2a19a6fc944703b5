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
from tiny_audio.commands.decoding import (
    AlignerFolder,
    Beams,
    CtcWeight,
    MinLogprob,
    Whole,
    refuse_idle,
)
from tiny_audio.progress import progress

if TYPE_CHECKING:
    from tiny_audio.infer.results import Transcript


class Format(StrEnum):
    """How a transcript is printed."""

    text = "text"
    json = "json"
    verbose_json = "verbose_json"
    srt = "srt"
    vtt = "vtt"


class Timestamps(StrEnum):
    """What gets times."""

    segment = "segment"
    word = "word"


SUFFIXES = {Format.text: ".txt", Format.verbose_json: ".json"}  # the others are called as they are


def transcribe(
    files: Annotated[list[str], typer.Argument(help="Audio files of any length; - is stdin.")],
    model: Annotated[str, typer.Option(help="nano, a checkpoint folder, or a Hub id.")] = "nano",
    prompt: Annotated[
        str | None, typer.Option(help="What to ask instead of the model's own instruction.")
    ] = None,
    hotwords: Annotated[
        str, typer.Option(help="Words that may well be said: 'Ada,Grace Hopper'.")
    ] = "",
    beams: Beams = 1,
    ctc_weight: CtcWeight = 0.0,
    whole: Whole = False,
    format: Annotated[
        Format, typer.Option(help="One line or one JSON object per file, or subtitles.")
    ] = Format.text,
    timestamps: Annotated[
        Timestamps, typer.Option(help="word: also when every word was said (needs a CTC head).")
    ] = Timestamps.segment,
    aligner: AlignerFolder = None,
    min_logprob: MinLogprob = -1.0,
    output_dir: Annotated[
        Path | None, typer.Option(help="Write NAME.txt, .json, .srt or .vtt there, print nothing.")
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Take this channel (from 0) instead of the mean of all.")
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(min=1, help="Take this audio track (from 1) instead of the default one."),
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Take what is readable of a damaged file.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
) -> None:
    """Turn audio files into text. Exit code 1 if any file failed; the others are still printed."""
    from tiny_audio.infer.jobs import Failed
    from tiny_audio.infer.transcriber import Request, Transcriber

    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        words = tuple(word for word in hotwords.split(",") if word.strip())
        request = Request(
            prompt, words, timestamps.value, min_logprob, beams, ctc_weight, whole=whole
        )
        refuse_idle(aligner, request)
        transcriber = Transcriber.from_pretrained(model, head=aligner, device=device)
        transcriber.check(request)
    paths = output_paths(files, format, output_dir)
    options: dict[str, Any] = {"channel": channel, "track": track}
    options["allow_truncated"] = allow_truncated
    sources = (sys.stdin.buffer if name == "-" else Path(name) for name in files)
    failed = 0
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(files))

        def tell(name: Any, seconds: float) -> None:
            bar.update(task, description=f"transcribing {seconds:,.0f} s")

        made = transcriber.transcribe_many(sources, request, on_progress=tell, **options)
        for name, path, result in zip(files, paths, made, strict=True):
            if isinstance(result, Failed):
                failed += 1
                fail("stdin" if name == "-" else name, result.error)
                if format is Format.json and path is None:
                    typer.echo(json.dumps({"file": name, "error": str(result.error)}))
            else:
                emit(name, result, format, path, bar.console)
            bar.advance(task)
    if failed:
        raise typer.Exit(1)


def output_paths(files: list[str], format: Format, folder: Path | None) -> list[Path | None]:
    """Where each file's result goes; None is stdout. Two files never go to one place."""
    if folder is None:
        if len(files) > 1 and format in (Format.srt, Format.vtt):
            problem = f"several files as {format.value} in one output cannot be told apart"
            fail("", ValueError(f"{problem}; add --output-dir FOLDER, or give them one by one"))
            raise typer.Exit(2)
        return [None] * len(files)
    suffix = SUFFIXES.get(format, f".{format.value}")
    names = ["stdin" if name == "-" else Path(name).stem for name in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        fail("", ValueError(f"several files would become {twice[0]}{suffix}; give them one by one"))
        raise typer.Exit(2)
    folder.mkdir(parents=True, exist_ok=True)
    return [folder / f"{name}{suffix}" for name in names]


def emit(
    name: str, transcript: Transcript, format: Format, path: Path | None, console: Console
) -> None:
    """Print or write one result; what a reader must know besides goes to stderr."""
    from tiny_audio.infer.formats import FORMATS

    text = FORMATS[format](transcript).rstrip("\n")
    if format is Format.text:  # one line per file
        text = text or f"[{transcript.outcome.replace('_', ' ')}]"
    elif format is Format.json:
        text = json.dumps({"file": name, **transcript.to_dict()}, ensure_ascii=False)
    if path is None:
        print(text, flush=True)
    else:
        path.write_text(text + "\n", encoding="utf-8")
    if format is Format.json and path is None:  # notes and outcome stand in it
        return
    for note in transcript.notes:
        say(f"{name}: {note}", "yellow", console)
    if not transcript.complete:
        say(f"{name}: the text may not be whole ({transcript.outcome})", "yellow", console)
