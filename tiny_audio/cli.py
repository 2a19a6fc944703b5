"""The command line: `tiny-audio COMMAND`. Every command is a function in `commands/`."""

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from tiny_audio import __version__
from tiny_audio.commands import keep_few_kernels, say
from tiny_audio.commands.adapt import adapt
from tiny_audio.commands.ask import ask
from tiny_audio.commands.convert import convert
from tiny_audio.commands.datasets import datasets
from tiny_audio.commands.demo import demo
from tiny_audio.commands.doctor import doctor
from tiny_audio.commands.embeddings import embeddings
from tiny_audio.commands.eval import evaluate
from tiny_audio.commands.export import export
from tiny_audio.commands.get import get
from tiny_audio.commands.inspect import inspect
from tiny_audio.commands.leaderboard import leaderboard
from tiny_audio.commands.params import params
from tiny_audio.commands.projectors import projectors
from tiny_audio.commands.push import push
from tiny_audio.commands.report import report
from tiny_audio.commands.robustness import robustness
from tiny_audio.commands.score import compare, score
from tiny_audio.commands.serve import serve
from tiny_audio.commands.stream import stream
from tiny_audio.commands.trace import trace
from tiny_audio.commands.train import KEYS, plan, quickstart, train
from tiny_audio.commands.train_head import train_head
from tiny_audio.commands.transcribe import transcribe
from tiny_audio.commands.understand import understand

app = typer.Typer(
    help="Teach a language model to hear: audio encoder, trainable projector, language model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiny-audio {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Nothing but `--version` stands before a command."""
    if context.invoked_subcommand not in ("quickstart", "adapt", "train", "train-head"):
        keep_few_kernels()


# In the order of `--help`.
USE, TRAIN, MEASURE, EXPLAIN = "Use a model", "Train one", "Measure it", "Look inside"
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    USE: (transcribe, ask, stream, demo, serve, get, convert, export, push),
    TRAIN: (quickstart, adapt, train, plan, doctor, train_head),
    MEASURE: (evaluate, score, compare, report, robustness, understand, datasets),
    EXPLAIN: (trace, embeddings, inspect, params, projectors),
}
for panel, commands in PANELS.items():
    for command in commands:
        keys = KEYS if command in (train, plan) else None
        name = "eval" if command is evaluate else None
        app.command(name, context_settings=keys, rich_help_panel=panel)(command)
app.add_typer(leaderboard, name="leaderboard", rich_help_panel=MEASURE)


def open_closed_streams() -> None:
    """Give a closed stdin no bytes and a closed stderr a place; refuse a closed stdout, where what
    is printed would be lost without a word.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115
    if sys.stdout is None:
        say("error: stdout is closed, so nothing can be printed. Add > /dev/null.", "red")
        sys.exit(2)


def main() -> None:
    """The `tiny-audio` command."""
    open_closed_streams()
    for output in (sys.stdout, sys.stderr):  # a file's name need not be valid UTF-8
        if isinstance(output, io.TextIOWrapper):
            output.reconfigure(errors="backslashreplace")
    app()
