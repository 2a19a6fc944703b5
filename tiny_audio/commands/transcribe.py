"""`tiny-audio transcribe`: files to text."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import fail, refusing, say
from tiny_audio.commands.decoding import (
    AlignerFolder,
    Beams,
    CtcWeight,
    Device,
    Dtype,
    MinLogprob,
    Model,
    Whole,
    refuse_idle,
    torch_dtype,
)
from tiny_audio.commands.manifests import (
    Engine,
    Many,
    refuse_mixed,
    transcribe_manifest,
)
from tiny_audio.commands.outputs import places
from tiny_audio.files import json_line, write_text
from tiny_audio.model.errors import ConfigError
from tiny_audio.progress import progress

if TYPE_CHECKING:
    from tiny_audio.infer.results import Transcript


class Format(StrEnum):
    """The forms in which a transcript is printed."""

    text = "text"
    json = "json"
    verbose_json = "verbose_json"
    srt = "srt"
    vtt = "vtt"


class Timestamps(StrEnum):
    """The parts of a transcript that get times: windows, lines of subtitles, or single words."""

    segment = "segment"
    line = "line"
    word = "word"


SUFFIXES = {Format.text: ".txt", Format.verbose_json: ".json"}  # the others are called as they are


def transcribe(
    files: Annotated[
        list[str] | None, typer.Argument(help="Audio files of any length; - reads stdin.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    prompt: Annotated[
        str | None, typer.Option(help="Instruction to give in place of the model's own.")
    ] = None,
    hotwords: Annotated[
        str,
        typer.Option(
            help="Words that are likely to be said, with commas between them: 'Ada,Grace Hopper'."
        ),
    ] = "",
    beams: Beams = None,
    ctc_weight: CtcWeight = None,
    whole: Whole = False,
    format: Annotated[
        Format,
        typer.Option(
            help="What to write: one line of text or one JSON object for each file, or subtitles."
        ),
    ] = Format.text,
    timestamps: Annotated[
        Timestamps,
        typer.Option(
            help=(
                "What gets times. word: every word, and subtitles show one word at a time. line: "
                "subtitles begin and end with a word. Both need a CTC head."
            )
        ),
    ] = Timestamps.segment,
    aligner: AlignerFolder = None,
    min_logprob: MinLogprob = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder in which to write NAME.txt, .json, .srt or .vtt, instead of printing."
        ),
    ] = None,
    channel: Annotated[
        int | None, typer.Option(help="Channel to use, counted from 0; by default the mean of all.")
    ] = None,
    track: Annotated[
        int | None,
        typer.Option(
            min=1, help="Audio track to use, counted from 1; by default the file's own default."
        ),
    ] = None,
    allow_truncated: Annotated[
        bool, typer.Option("--allow-truncated", help="Use the readable part of a damaged file.")
    ] = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    manifest: Annotated[
        Path | None, typer.Option(help="Clips of a manifest, tar shards or a folder, to --out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The manifest's texts; a stopped job goes on there.")
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Only every N-th clip, from the I-th on.")
    ] = "1/1",
    retry: Annotated[bool, typer.Option("--retry", help="Also clips that failed before.")] = False,
    engine: Annotated[
        Engine, typer.Option(help="ray: a manifest's clips by actors (extra ray).")
    ] = Engine.local,
    workers: Annotated[int, typer.Option(min=1, help="Actors of Ray that hold the model.")] = 1,
    address: Annotated[str, typer.Option(help="Of a running Ray cluster.")] = "",
) -> None:
    """Turn audio files into text.

    The exit code is 1 if any file failed; the texts of the others are still printed.
    """
    from tiny_audio.infer.jobs import Failed
    from tiny_audio.infer.transcriber import Request, Transcriber

    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        words = tuple(word for word in hotwords.split(",") if word.strip())
        timed: Literal["segment", "word"] = "segment" if timestamps == "segment" else "word"
        request = Request(prompt, words, timed, min_logprob, beams, ctc_weight, whole=whole)
        many = Many(manifest, out, shard, retry, engine, workers, address)
        refuse_mixed(
            many,
            {
                "FILES": files,
                "--format": format is not Format.text,
                "--timestamps": timestamps is not Timestamps.segment,
                "--output-dir": output_dir,
                "--channel": channel is not None,
                "--track": track,
                "--allow-truncated": allow_truncated,
                "--dtype": dtype != "float32",
            },
        )
        if manifest is not None:
            lost = transcribe_manifest(many, model, device, request, aligner)
    if manifest is not None:
        raise typer.Exit(1 if lost else 0)
    with refusing(RuntimeError):
        transcriber = Transcriber.from_pretrained(
            model, head=aligner, device=device, dtype=torch_dtype(dtype)
        )
        transcriber.check(request)
        refuse_idle(aligner, request, transcriber)
        kept, failed = writable(files or [], format, output_dir)
    options: dict[str, Any] = {"channel": channel, "track": track}
    options["allow_truncated"] = allow_truncated
    sources = (sys.stdin.buffer if name == "-" else name for name, _ in kept)
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(kept))

        def tell(name: Any, seconds: float) -> None:
            bar.update(task, description=f"transcribing {seconds:,.0f} s")

        made = transcriber.transcribe_many(sources, request, on_progress=tell, **options)
        for (name, path), result in zip(kept, made, strict=True):
            if isinstance(result, Failed):
                failed += 1
                fail("stdin" if name == "-" else name, result.error)
                if format is Format.json and path is None:
                    typer.echo(json.dumps({"file": name, "error": str(result.error)}))
            else:
                by_word = timestamps == "word"
                failed += not emitted(name, result, format, path, bar.console, by_word)
            bar.advance(task)
    if failed:
        raise typer.Exit(1)


def writable(
    files: list[str], format: Format, folder: Path | None
) -> tuple[list[tuple[str, Path | None]], int]:
    """Return the files with the places of their results (None is stdout), and how many have
    none.
    """
    if folder is None:
        if len(files) > 1 and format in (Format.srt, Format.vtt):
            raise ConfigError(
                f"{len(files)} files would be one {format.value} file on stdout. Add --output-dir "
                "FOLDER, or give them one by one."
            )
        return [(name, None) for name in files], 0
    found = zip(files, places(files, SUFFIXES.get(format, f".{format.value}"), folder), strict=True)
    kept = list[tuple[str, Path | None]]()
    for name, place in found:
        if isinstance(place, ConfigError):
            fail(name, place)
        else:
            kept.append((name, place))
    return kept, len(files) - len(kept)


def emitted(
    name: str,
    transcript: Transcript,
    format: Format,
    path: Path | None,
    console: Console,
    by_word: bool = False,
) -> bool:
    """Tell whether a result could be printed or written; where not, that is said."""
    try:
        emit(name, transcript, format, path, console, by_word)
    except BrokenPipeError:  # nobody reads any more
        raise
    except OSError as error:
        fail(name, OSError(f"its text cannot be written: {error.strerror or error}"))
        return False
    return True


def emit(
    name: str,
    transcript: Transcript,
    format: Format,
    path: Path | None,
    console: Console,
    by_word: bool,
) -> None:
    """Print or write one result; what a reader must know besides goes to stderr."""
    from tiny_audio.infer.formats import BY_WORD, FORMATS

    text = (BY_WORD if by_word else FORMATS)[format](transcript).rstrip("\n")
    if format is Format.text:  # one line per file
        text = text or f"[{transcript.outcome.replace('_', ' ')}]"
    elif format is Format.json:
        text = json_line({"file": name, **transcript.to_dict()})
    if path is None:
        print(text, flush=True)
    else:
        write_text(path, text + "\n")
    if format is Format.json and path is None:  # notes and outcome stand in it
        return
    for note in transcript.notes:
        say(f"{name}: {note}", "yellow", console)
    if not transcript.complete:
        say(f"{name}: the text may not be whole ({transcript.outcome})", "yellow", console)
