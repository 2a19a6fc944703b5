"""`tiny-audio understand`: questions about sounds, scored beside silence and swapped audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, say, show
from tiny_audio.commands.options import Device


def understand(
    model: Annotated[str, typer.Argument(help="What to evaluate, as for tiny-audio eval.")],
    task: Annotated[
        str,
        typer.Option(
            help=(
                "Question to ask: emotion, describe, intent …, or a .json file with one of your "
                "own."
            )
        ),
    ],
    dataset: Annotated[str, typer.Option(help="Clips to ask about, given as for tiny-audio eval.")],
    label: Annotated[
        str | None, typer.Option(help="Column with the right answer, if not the task's.")
    ] = None,
    max_samples: Annotated[
        int, typer.Option(min=0, help="Number of clips to ask about; 0 means all.")
    ] = 0,
    out: Annotated[Path, typer.Option(help="Folder for answers and scores.")] = Path(
        "runs/understand"
    ),
    seed: Annotated[
        int, typer.Option(help="Seed of the order of the clips and of the swapped audio.")
    ] = 42,
    device: Device = "cpu",
) -> None:
    """Ask questions about clips, and score the answers strictly.

    The scores with silence, with another clip's audio, and of a constant answer are printed too.
    Exit code 1 if any clip failed: its answer then counts as wrong.
    """
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from dataclasses import replace

        from tiny_audio.data.examples import Dropped
        from tiny_audio.evaluate.clips import choose
        from tiny_audio.evaluate.controls import show_controls
        from tiny_audio.evaluate.controls import understand as run
        from tiny_audio.evaluate.datasets import dataset as named
        from tiny_audio.evaluate.rivals import system
        from tiny_audio.evaluate.tasks import task as task_of

        dropped, asked = Dropped(), task_of(task)
        source = replace(named(dataset), text=label or asked.target)
        examples = list(choose(source, (), seed, max_samples, dropped))
        result = run(system(model, device), asked, examples, source, out, seed)
    for reason, count in dropped.counts().items():
        say(f"left out: {count} × {reason}")
    show(show_controls(result))
    if any(one["num_failed"] for one in result["scores"].values()):
        raise typer.Exit(1)
