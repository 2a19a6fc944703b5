"""`tiny-audio report`: the HTML page of an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, say


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run of tiny-audio eval.")],
) -> None:
    """Write report.html beside a result: errors, groups, worst clips with their audio."""
    with refusing():
        from tiny_audio.evaluate.report import write_report

        path = write_report(folder)
    say(f"Open {path} in a browser.")
