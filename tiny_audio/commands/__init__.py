"""One file per command of `tiny-audio`; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from tiny_audio.progress import stderr


def keep_few_kernels() -> None:
    """Clips differ in length, and oneDNN keeps the code that it made for the last 1,024 shapes:
    140 MB after 600 clips. With 32 memory stays flat, and no time is lost
    (`benchmarks/evaluation.py`). Training repeats its shapes and keeps them all.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


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
    """A line on stderr, as it is: names and messages may hold brackets. Control characters of a
    file's name are spelled out, or they would steer the terminal."""
    message = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
    console.print(message, style=style, markup=False, highlight=False, soft_wrap=True)
