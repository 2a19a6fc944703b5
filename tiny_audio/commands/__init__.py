"""One file per command of `tiny-audio`; nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import typer

from tiny_audio.progress import say, stderr
from tiny_audio.progress import show as show  # for the commands


def keep_few_kernels() -> None:
    """Let oneDNN keep few kernels. Clips differ in length, and it keeps the code that it made for
    the last 1,024 shapes: 140 MB after 600 clips. With 32 memory stays flat, and no time is lost
    (`benchmarks/evaluation.py`). Training repeats its shapes and keeps them all.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")


# Libraries of an extra that a command needs at its end as surely as at its beginning.
LIBRARIES = {
    "train": ("hydra", "matplotlib", "rapidfuzz", "yaml"),
    "eval": ("jinja2", "rapidfuzz"),
}


def require(what: str, extra: str) -> None:
    """Refuse before any work begins, where a library of the extra is missing."""
    from tiny_audio.model.errors import MissingExtra

    if any(find_spec(library) is None for library in LIBRARIES[extra]):
        raise MissingExtra(what, extra)


@contextmanager
def refusing(*also: type[Exception]) -> Iterator[None]:
    """Turn what goes wrong on purpose (and `also`) into one line on stderr and exit code 2. So is
    what the system refuses: a full disk, a folder that is not there or may not be written to.
    """
    from tiny_audio.model.errors import TinyAudioError

    caught: tuple[type[Exception], ...] = (TinyAudioError, OSError, *also)
    try:
        yield
    except BrokenPipeError:  # nobody reads any more
        raise
    except caught as error:
        fail("", error)
        raise typer.Exit(2) from error


def fail(name: str, error: Exception) -> None:
    """Print an error of one file, or of the whole command."""
    message = str(error)
    if isinstance(error, OSError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    named = not name or message.startswith((f"{name}:", f"{name} "))
    say(f"error: {message}" if named else f"error: {name}: {message}", "red", stderr)
