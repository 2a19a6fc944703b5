"""`tiny-audio train`, `quickstart` and `plan`: runs, and what they will need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio.ahead import import_ahead
from tiny_audio.commands import refusing, require, say, show
from tiny_audio.progress import typed_command

KEYS = {"ignore_unknown_options": True, "allow_extra_args": True}  # key=value, ~key, +key=value


def train(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="+experiment=NAME [KEY=VALUE]…",
            help="Name of an experiment, or the recipe.yaml of a run; then keys to change.",
        ),
    ],
    multirun: Annotated[
        bool,
        typer.Option(
            "--multirun", "-m", help="Train every combination of values given as key=a,b."
        ),
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Number of processes on this machine; leave it out under torchrun.")
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to train if any clip is unusable.")
    ] = False,
) -> None:
    """Train a recipe, or continue one where it stopped."""
    if processes > 1:
        import_ahead()
    with refusing(FloatingPointError):
        require("tiny-audio train", "train")
        from tiny_audio.train.compose import compose_recipe, compose_sweep
        from tiny_audio.train.run import train as run
        from tiny_audio.train.screen import Lines

        given = [*arguments, *(["data.strict=true"] if strict else [])]
        for recipe in compose_sweep(given) if multirun else [compose_recipe(given)]:
            folder = run(recipe, processes, Lines())
            say(f"The model is in {folder / 'model'}. Next type: {typed_command()} doctor {folder}")


def quickstart(
    minutes: Annotated[
        float | None, typer.Option(help="Training time in minutes; by default that of the recipe.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the run.")] = Path("runs/quickstart"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete an earlier run in that folder first.")
    ] = False,
) -> None:
    """Train your first recogniser in a few minutes on two cores, offline."""
    with refusing(FloatingPointError):
        require("tiny-audio quickstart", "train")
        import_ahead()
        from tiny_audio.train.quickstart import quickstart as run

        run(out, minutes, fresh)


def plan(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT [KEY=VALUE]…",
            help="Name of an experiment, or the recipe.yaml of a run; then keys to change.",
        ),
    ],
    memory: Annotated[str, typer.Option(help="Memory of the device, for example 24GB.")] = "24GB",
    hours: Annotated[float, typer.Option(help="Hours of audio in one epoch.")] = 100.0,
    tflops: Annotated[
        float, typer.Option(help="Speed that the device reaches in practice, in TFLOP/s.")
    ] = 50.0,
) -> None:
    """Estimate parameters, peak memory, batch size and time per epoch, before any download."""
    with refusing():
        from tiny_audio.scope.plan.plan import parse_memory, render
        from tiny_audio.scope.plan.plan import plan as make
        from tiny_audio.train.compose import compose_recipe

        first = arguments[0]
        is_recipe = "=" in first or first.endswith((".yaml", ".yml"))
        recipe = compose_recipe([first if is_recipe else f"+experiment={first}", *arguments[1:]])
        made = make(recipe, parse_memory(memory), hours=hours, flops_per_s=tflops * 1e12)
        show(render(made))
