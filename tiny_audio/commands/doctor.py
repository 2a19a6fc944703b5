"""`tiny-audio doctor`: what a run's log says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, show


def doctor(run: Annotated[Path, typer.Argument(help="Folder of a training run.")]) -> None:
    """Say in words whether a model listens and what looks broken in its run.

    The exit code is 1 if something is wrong.
    """
    with refusing():
        from tiny_audio.scope.doctor.diagnosis import diagnose, render

        findings = diagnose(run)
    show(render(findings))
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)
