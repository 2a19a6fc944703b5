"""The command line: `tiny-audio COMMAND`. Nothing heavy is imported before a command runs."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tiny_audio import __version__

if TYPE_CHECKING:
    from tiny_audio.infer.results import Transcript

app = typer.Typer(
    help="Teach a language model to hear: audio encoder, trainable projector, language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
stderr = Console(stderr=True)


class Format(StrEnum):
    """How a transcript is printed."""

    text = "text"
    json = "json"


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiny-audio {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Nothing but `--version` stands before a command."""


@app.command()
def transcribe(
    files: Annotated[list[str], typer.Argument(help="Audio files of any length; - is stdin.")],
    model: Annotated[str, typer.Option(help="nano, a checkpoint folder, or a Hub id.")] = "nano",
    prompt: Annotated[
        str | None, typer.Option(help="What to ask instead of the model's own instruction.")
    ] = None,
    format: Annotated[
        Format, typer.Option(help="One line or one JSON object per file.")
    ] = Format.text,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")] = "cpu",
) -> None:
    """Turn audio files into text. Exit code 1 if any file failed; the others are still printed."""
    from tiny_audio.infer.transcriber import Transcriber
    from tiny_audio.model.errors import TinyAudioError

    try:
        transcriber = Transcriber.from_pretrained(model, device=device)
    except (TinyAudioError, RuntimeError) as error:  # torch refuses a device with a RuntimeError
        fail("", error)
        raise typer.Exit(2) from error
    failed = 0
    with progress() as bar:
        task = bar.add_task("transcribing", total=len(files))
        for name in files:
            try:
                source = sys.stdin.buffer.read() if name == "-" else Path(name)
                emit(name, transcriber.transcribe(source, prompt=prompt), format, bar.console)
            except TinyAudioError as error:
                failed += 1
                fail(name, error)
                if format is Format.json:
                    typer.echo(json.dumps({"file": name, "error": str(error)}))
            bar.advance(task)
    if failed:
        raise typer.Exit(1)


def emit(name: str, transcript: "Transcript", format: Format, console: Console) -> None:
    """Print one result on stdout; what a reader must know besides goes to stderr."""
    if format is Format.json:
        print(json.dumps({"file": name, **transcript.to_dict()}, ensure_ascii=False), flush=True)
        return
    print(" ".join(transcript.text.split()) or "[no speech]", flush=True)  # one line per file
    for note in transcript.notes:
        say(f"{name}: {note}", "yellow", console)
    if not transcript.complete:
        say(f"{name}: the text may not be whole ({transcript.outcome})", "yellow", console)


def fail(name: str, error: Exception) -> None:
    say(f"error: {name}: {error}" if name else f"error: {error}", "red", stderr)


def say(message: str, style: str, console: Console) -> None:
    """A line on stderr, as it is: names and messages may hold brackets."""
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def progress() -> Progress:
    """A bar on a terminal's stderr, nothing in a pipe; stdout stays what it is in both."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns,
        TimeElapsedColumn(),
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    )


def main() -> None:
    """The `tiny-audio` command."""
    app()
