"""The command line: `tiny-audio COMMAND`. Nothing heavy is imported before a command runs."""

import io
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from tiny_audio import __version__
from tiny_audio.progress import progress, stderr

if TYPE_CHECKING:
    from tiny_audio.infer.results import Transcript

app = typer.Typer(
    help="Teach a language model to hear: audio encoder, trainable projector, language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


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

    try:
        transcriber = Transcriber.from_pretrained(model, device=device)
    except (TinyAudioError, RuntimeError) as error:  # torch refuses a device with a RuntimeError
        fail("", error)
        raise typer.Exit(2) from error
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


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def train(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="+experiment=NAME [KEY=VALUE]…", help="Or a recipe.yaml."),
    ],
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run all combinations of key=a,b.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes of this machine; torchrun brings its own.")
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to train if any clip is unusable.")
    ] = False,
) -> None:
    """Train a recipe, or go on with it where it stopped."""
    from tiny_audio.model.errors import TinyAudioError

    try:
        from tiny_audio.train.compose import compose_recipe, compose_sweep
        from tiny_audio.train.run import train as run
        from tiny_audio.train.view import Lines

        given = [*arguments, *(["data.strict=true"] if strict else [])]
        for recipe in compose_sweep(given) if multirun else [compose_recipe(given)]:
            folder = run(recipe, processes, Lines())
            say(f"The model is in {folder / 'model'}; ask: tiny-audio doctor {folder}", "", stderr)
    except (TinyAudioError, FloatingPointError) as error:
        fail("", error)
        raise typer.Exit(2) from error


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("runs/quickstart"),
    minutes: Annotated[float, typer.Option(help="Training time.")] = 1.25,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run there.")] = False,
) -> None:
    """Train your first recogniser: three minutes on two cores, offline."""
    from tiny_audio.model.errors import TinyAudioError

    try:
        from tiny_audio.train.quickstart import quickstart as run

        run(output, minutes, fresh)
    except TinyAudioError as error:
        fail("", error)
        raise typer.Exit(2) from error


@app.command()
def doctor(run: Annotated[Path, typer.Argument(help="The folder of a training run.")]) -> None:
    """Say in words whether a model listens, and what looks broken. Exit code 1 if something is."""
    from tiny_audio.model.errors import TinyAudioError
    from tiny_audio.scope.doctor import diagnose, render

    try:
        findings = diagnose(run)
    except TinyAudioError as error:
        fail("", error)
        raise typer.Exit(2) from error
    Console().print(render(findings))
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def plan(
    arguments: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT [KEY=VALUE]…", help="Or a recipe.yaml.")
    ],
    memory: Annotated[str, typer.Option(help="Of the device, for example 24GB.")] = "24GB",
    hours: Annotated[float, typer.Option(help="Hours of audio in an epoch.")] = 100.0,
    tflops: Annotated[float, typer.Option(help="TFLOP/s that the device really reaches.")] = 50.0,
) -> None:
    """Parameters, peak memory, batch budget and time per epoch, before anything is downloaded."""
    from tiny_audio.model.errors import TinyAudioError

    try:
        from tiny_audio.scope.plan import parse_memory, render
        from tiny_audio.scope.plan import plan as make
        from tiny_audio.train.compose import compose_recipe

        first = arguments[0]
        named = (
            first if "=" in first or first.endswith((".yaml", ".yml")) else f"+experiment={first}"
        )
        recipe = compose_recipe([named, *arguments[1:]])
        made = make(recipe, parse_memory(memory), hours=hours, flops_per_s=tflops * 1e12)
        Console().print(render(made))
    except TinyAudioError as error:
        fail("", error)
        raise typer.Exit(2) from error


def emit(name: str, transcript: "Transcript", format: Format, console: Console) -> None:
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


def fail(name: str, error: Exception) -> None:
    say(f"error: {name}: {error}" if name else f"error: {error}", "red", stderr)


def say(message: str, style: str, console: Console) -> None:
    """A line on stderr, as it is: names and messages may hold brackets."""
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """The `tiny-audio` command."""
    for stream in (sys.stdout, sys.stderr):  # a file's name need not be valid UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
