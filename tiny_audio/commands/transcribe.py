"""`tiny-audio transcribe`: files to text."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import fail, refusing, say
from tiny_audio.commands.manifests import (
    Address,
    Computing,
    Engine,
    Manifest,
    Many,
    Out,
    Part,
    Retry,
    Workers,
    refuse_mixed,
    transcribe_manifest,
)
from tiny_audio.commands.options import (
    AlignerFolder,
    AllowTruncated,
    Beams,
    Channel,
    CtcWeight,
    Device,
    Dtype,
    Hotwords,
    MinLogprob,
    Model,
    Prompt,
    Whole,
    ready,
    words_of,
)
from tiny_audio.commands.outputs import places
from tiny_audio.files import json_line, write_text
from tiny_audio.model.errors import ConfigError
from tiny_audio.progress import progress

if TYPE_CHECKING:
    from tiny_audio.infer.request import Request
    from tiny_audio.infer.results import Transcript
    from tiny_audio.infer.transcriber import Transcriber


class Format(StrEnum):
    """The forms in which a transcript is printed."""

    text = "text"
    json = "json"
    verbose_json = "verbose_json"
    srt = "srt"
    vtt = "vtt"
    diarized_json = "diarized_json"


class Timestamps(StrEnum):
    """The parts of a transcript that get times: windows, lines of subtitles, or single words."""

    segment = "segment"
    line = "line"
    word = "word"


# The others are called as they are.
SUFFIXES = {Format.text: ".txt", Format.verbose_json: ".json", Format.diarized_json: ".json"}


Files = Annotated[
    list[str] | None, typer.Argument(help="Audio files of any length; - reads stdin.")
]
Form = Annotated[
    Format,
    typer.Option(
        help="What to write: one line of text or one JSON object for each file, or subtitles."
    ),
]
Timed = Annotated[
    Timestamps,
    typer.Option(
        help=(
            "What gets times. segment: every segment. word: every word, and subtitles show one "
            "word at a time. line: subtitles begin and end with a word. The last two need a CTC "
            "head."
        )
    ),
]
Diarize = Annotated[
    bool,
    typer.Option(
        "--diarize", help="Say who spoke: A, B … in text, json or diarized_json (extra diarize)."
    ),
]
Speakers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of speakers; without it, --diarize finds the number."),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder in which to write NAME.txt, .json, .srt or .vtt, instead of printing."
    ),
]
Track = Annotated[
    int | None,
    typer.Option(
        min=1, help="Audio track to use, counted from 1; by default the file's own default."
    ),
]


def transcribe(
    files: Files = None,
    model: Model = DEFAULT_MODEL,
    prompt: Prompt = None,
    hotwords: Hotwords = "",
    beams: Beams = None,
    ctc_weight: CtcWeight = None,
    whole: Whole = False,
    format: Form = Format.text,
    timestamps: Timed = Timestamps.segment,
    diarize: Diarize = False,
    speakers: Speakers = None,
    aligner: AlignerFolder = None,
    min_logprob: MinLogprob = None,
    output_dir: OutputDir = None,
    channel: Channel = None,
    track: Track = None,
    allow_truncated: AllowTruncated = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    manifest: Manifest = None,
    out: Out = None,
    shard: Part = "1/1",
    retry: Retry = False,
    engine: Computing = Engine.local,
    workers: Workers = 1,
    address: Address = "",
) -> None:
    """Turn audio files into text.

    The exit code is 1 if any file failed; the texts of the others are still printed.
    """
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from tiny_audio.infer.request import Request

        output = Output(format, timestamps, output_dir, diarize or format == "diarized_json")
        request = Request(
            prompt,
            words_of(hotwords),
            output.timed,
            min_logprob,
            beams,
            ctc_weight,
            whole,
            output.diarize,
            speakers,
        )
        many = Many(manifest, out, shard, retry, engine, workers, address)
        reading = {"channel": channel, "track": track, "allow_truncated": allow_truncated}
        of_files = {"FILES": files, **output.given(), "--channel": channel is not None}
        of_files |= {"--track": track, "--allow-truncated": allow_truncated}
        refuse_mixed(many, {**of_files, "--dtype": dtype != "float32"})
        if manifest is not None:
            failed = transcribe_manifest(many, model, device, request, aligner)
        else:
            transcriber = ready(model, request, aligner, device, dtype)
            kept, failed = output.writable(files or [])
    if manifest is None:
        with refusing():
            failed += transcribe_files(transcriber, request, reading, kept, output)
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class Output:
    """The options of what is made of a file's transcript, and where it goes."""

    format: Format
    timestamps: Timestamps
    folder: Path | None
    diarize: bool = False

    def __post_init__(self) -> None:
        """Refuse a format that does not show who spoke, where that was asked."""
        if self.diarize and self.format not in (Format.text, Format.json, Format.diarized_json):
            raise ConfigError(
                f"--format {self.format.value} does not show who spoke. Use --format text, json or "
                f"diarized_json, or leave out --diarize."
            )

    @property
    def timed(self) -> Literal["segment", "word"]:
        """Return what needs times: who spoke is said of words."""
        by_segment = self.timestamps is Timestamps.segment and not self.diarize
        return "segment" if by_segment else "word"

    def given(self) -> dict[str, Any]:
        """Return the options, with whether they were typed."""
        return {
            "--format": self.format is not Format.text,
            "--timestamps": self.timestamps is not Timestamps.segment,
            "--diarize": self.diarize,
            "--output-dir": self.folder,
        }

    def writable(self, files: list[str]) -> tuple[list[tuple[str, Path | None]], int]:
        """Return the files with their places (None is stdout), and how many have none."""
        if self.folder is None:
            dialogue = self.diarize and self.format is Format.text
            if len(files) > 1 and (dialogue or self.format in (Format.srt, Format.vtt)):
                kind = "dialogue" if dialogue else f"{self.format.value} file"
                raise ConfigError(
                    f"{len(files)} files would be one {kind} on stdout. Add "
                    "--output-dir FOLDER, or give them one by one."
                )
            return [(name, None) for name in files], 0
        suffix = SUFFIXES.get(self.format, f".{self.format.value}")
        kept = list[tuple[str, Path | None]]()
        for name, place in zip(files, places(files, suffix, self.folder), strict=True):
            if isinstance(place, ConfigError):
                fail(name, place)
            else:
                kept.append((name, place))
        return kept, len(files) - len(kept)

    def failed(self, name: str, error: Exception, path: Path | None) -> None:
        """Say why a file has no text, in its own line of JSON too."""
        fail("stdin" if name == "-" else name, error)
        if self.format is Format.json and path is None:
            typer.echo(json.dumps({"file": name, "error": str(error)}))

    def emitted(self, name: str, made: Transcript, path: Path | None, console: Console) -> bool:
        """Tell whether a result could be printed or written; where not, that is said."""
        try:
            self.emit(name, made, path, console)
        except BrokenPipeError:  # nobody reads any more
            raise
        except OSError as error:
            fail(name, OSError(f"its text cannot be written: {error.strerror or error}"))
            return False
        return True

    def emit(self, name: str, made: Transcript, path: Path | None, console: Console) -> None:
        """Print or write one result; what a reader must know besides goes to stderr."""
        from tiny_audio.infer.formats import BY_WORD, FORMATS, WITH_SPEAKERS

        forms = BY_WORD if self.timestamps == "word" else FORMATS
        forms = WITH_SPEAKERS if self.diarize else forms
        text = forms[self.format](made).rstrip("\n")
        if self.format is Format.text:  # one line per file
            text = text or f"[{made.outcome.replace('_', ' ')}]"
        elif self.format is Format.json:
            text = json_line({"file": name, **made.to_dict()})
        if path is None:
            print(text, flush=True)
        else:
            write_text(path, text + "\n")
        if self.format is Format.json and path is None:  # notes and outcome stand in it
            return
        for note in made.notes:
            say(f"{name}: {note}", "yellow", console)
        if not made.complete:
            say(f"{name}: the text may not be whole ({made.outcome})", "yellow", console)


def transcribe_files(
    transcriber: Transcriber,
    request: Request,
    reading: dict[str, Any],
    kept: list[tuple[str, Path | None]],
    output: Output,
) -> int:
    """Transcribe files to their places, and return how many failed."""
    from tiny_audio.infer.jobs import Failed

    failed = 0
    sources = (sys.stdin.buffer if name == "-" else name for name, _ in kept)
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(kept))

        def tell(name: Any, seconds: float) -> None:
            bar.update(task, description=f"transcribing {seconds:,.0f} s")

        made = transcriber.transcribe_many(sources, request, on_progress=tell, **reading)
        for (name, path), result in zip(kept, made, strict=True):
            if isinstance(result, Failed):
                failed += 1
                output.failed(name, result.error, path)
            else:
                failed += not output.emitted(name, result, path, bar.console)
            bar.advance(task)
    return failed
