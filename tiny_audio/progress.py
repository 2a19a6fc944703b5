"""The one progress bar: on a terminal's stderr, and nothing in a pipe; stdout is left alone in
both.
"""

import sys

from rich.console import Console
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


def progress(*, counts: bool = True, disable: bool = False) -> Progress:
    """Return a bar that shows done/total, or a percentage where the total is no number of
    things.
    """
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
