"""One file per command of `tiny-audio`; nothing heavy is imported before a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from tiny_audio.progress import stderr


@contextmanager
def refusing(*also: type[Exception]) -> Iterator[None]:
    """What goes wrong on purpose (and `also`) is one line on stderr and exit code 2."""
    from tiny_audio.model.errors import TinyAudioError

    caught: tuple[type[Exception], ...] = (TinyAudioError, *also)
    try:
        yield
    except caught as error:
        fail("", error)
        raise typer.Exit(2) from error


def fail(name: str, error: Exception) -> None:
    """An error of one file, or of the whole command."""
    say(f"error: {name}: {error}" if name else f"error: {error}", "red", stderr)


def say(message: str, style: str = "", console: Console = stderr) -> None:
    """A line on stderr, as it is: names and messages may hold brackets."""
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)
