"""Printing for commands: lines and the one progress bar on stderr, tables on stdout.

In a pipe the bar is nothing.
"""

import os
import sys

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

stderr = Console(stderr=True)
UV = "UV_RUN_RECURSION_DEPTH"  # `uv run` sets it


def typed_command() -> str:
    """Return the name that a reader types before a command: a clone's programs run in `uv run`."""
    return "uv run tiny-audio" if UV in os.environ else "tiny-audio"


def say(message: str, style: str = "", console: Console = stderr) -> None:
    """Print a line on stderr, as it is: names and messages may hold brackets. Control characters of
    a file's name are spelled out, or they would steer the terminal.
    """
    message = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
    console.print(message, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def written(text: str | None) -> str:
    """Show a text, or say that there is none: the clip failed, or the model wrote nothing."""
    return "(failed)" if text is None else text or "(nothing)"


def show(table: RenderableType) -> None:
    """Print a table, or whatever else rich lays out, on stdout."""
    Console(emoji=False).print(table)


def progress(*, counts: bool = True, disable: bool = False) -> Progress:
    """Return a bar that shows done/total, or a percentage where things are not counted."""
    share = MofNCompleteColumn() if counts else TaskProgressColumn()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        share,
        TimeElapsedColumn(),
    )
    return Progress(
        *columns,
        TimeRemainingColumn(),
        console=stderr,
        transient=True,
        disable=disable or not stderr.is_terminal,
        redirect_stdout=sys.stdout.isatty(),
    )
