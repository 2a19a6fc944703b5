"""`tiny-audio robustness`: word errors under noise, speed, band and codec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.commands import refusing, say, show
from tiny_audio.commands.options import Device


def robustness(
    model: Annotated[str, typer.Argument(help="What to evaluate, as for tiny-audio eval.")],
    dataset: Annotated[
        str, typer.Option(help="Clips to evaluate on, as for tiny-audio eval.")
    ] = "quickstart",
    conditions: Annotated[
        str,
        typer.Option(
            help=(
                "Conditions with commas between them, for example "
                "noise:pink@10dB,speed:0.9,band:telephone,codec:mp3."
            )
        ),
    ] = "",
    max_samples: Annotated[
        int, typer.Option(min=0, help="Number of clips to evaluate; 0 means all.")
    ] = 200,
    out: Annotated[Path, typer.Option(help="Folder for the runs.")] = Path("runs/robustness"),
    normalizer: Annotated[
        str, typer.Option(help="Text normaliser applied before scoring.")
    ] = "whisper-en",
    seed: Annotated[
        int, typer.Option(help="Seed of the order of the clips and of the noise that is added.")
    ] = 42,
    device: Device = "cpu",
) -> None:
    """Measure the WER of the same clips under every condition of a grid, with intervals.

    The same command continues a run that was stopped. Exit code 1 if any clip failed.
    """
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from tiny_audio.evaluate.datasets import dataset as named
        from tiny_audio.evaluate.evaluator import RunConfig
        from tiny_audio.evaluate.grid import GRID_FILE, run_grid, show_grid
        from tiny_audio.evaluate.rivals import system
        from tiny_audio.evaluate.robustness import GRID

        config = RunConfig(
            name=dataset,
            source=named(dataset),
            max_samples=max_samples,
            seed=seed,
            normalizer=normalizer,
        )
        asked = conditions.split(",") if conditions else GRID
        grid = run_grid(
            system(model, device), config, asked, out, lambda name: say(f"done: {name}")
        )
    show(show_grid(grid))
    for reason, count in (grid["dataset"]["dropped"] or {}).items():
        say(f"left out: {count} × {reason}")
    say(f"Kept in {out / GRID_FILE}; every condition is a run of its own beside it.")
    if any(row["failed"] for row in grid["rows"]):
        raise typer.Exit(1)
