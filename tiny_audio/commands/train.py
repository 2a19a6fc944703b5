"""`tiny-audio train`, `quickstart` and `plan`: runs, and what they will need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiny_audio.ahead import import_ahead
from tiny_audio.commands import refusing, require, say

KEYS = {"ignore_unknown_options": True, "allow_extra_args": True}  # key=value, ~key, +key=value


def train(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="+experiment=NAME [KEY=VALUE]…", help="Or a recipe.yaml."),
    ],
    multirun: Annotated[
        bool, typer.Option("--multirun", "-m", help="Run all combinations of key=a,b.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes of this machine; torchrun brings its own.")
    ] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse to train if any clip is unusable.")
    ] = False,
) -> None:
    """Train a recipe, or go on with it where it stopped."""
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
            say(f"The model is in {folder / 'model'}; ask: tiny-audio doctor {folder}")


def quickstart(
    minutes: Annotated[
        float | None, typer.Option(help="Training time; else as the recipe says.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("runs/quickstart"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run there.")] = False,
) -> None:
    """Train your first recogniser: a few minutes on two cores, offline."""
    with refusing(FloatingPointError):
        require("tiny-audio quickstart", "train")
        import_ahead()
        from tiny_audio.train.quickstart import quickstart as run

        run(out, minutes, fresh)


def plan(
    arguments: Annotated[
        list[str], typer.Argument(metavar="EXPERIMENT [KEY=VALUE]…", help="Or a recipe.yaml.")
    ],
    memory: Annotated[str, typer.Option(help="Of the device, for example 24GB.")] = "24GB",
    hours: Annotated[float, typer.Option(help="Hours of audio in an epoch.")] = 100.0,
    tflops: Annotated[float, typer.Option(help="TFLOP/s that the device really reaches.")] = 50.0,
) -> None:
    """Parameters, peak memory, batch budget and time per epoch, before anything is downloaded."""
    with refusing():
        from tiny_audio.scope.plan.plan import parse_memory, render
        from tiny_audio.scope.plan.plan import plan as make
        from tiny_audio.train.compose import compose_recipe

        first = arguments[0]
        is_recipe = "=" in first or first.endswith((".yaml", ".yml"))
        recipe = compose_recipe([first if is_recipe else f"+experiment={first}", *arguments[1:]])
        made = make(recipe, parse_memory(memory), hours=hours, flops_per_s=tflops * 1e12)
        Console(emoji=False).print(render(made))
