"""`tiny-audio adapt`: fit a model to your own clips, and see whether it helped."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, require, say, show
from tiny_audio.commands.options import Device, Model
from tiny_audio.progress import typed_command


def adapt(
    data: Annotated[
        Path, typer.Option(help="Manifest of your clips; each line has an audio file and its text.")
    ],
    model: Model = DEFAULT_MODEL,
    minutes: Annotated[float, typer.Option(min=0.05, help="Training time in minutes.")] = 5.0,
    out: Annotated[Path, typer.Option(help="Folder for the run.")] = Path("runs/adapt"),
    device: Device = "cpu",
) -> None:
    """Train a model on your own clips for some minutes, and compare it before and after.

    It trains the projector, which turns frames of sound into what the language model reads, and
    adapters: small matrices beside the language model's own weights, which stay as they are.
    A fifth of the clips is kept for the test: all clips of some speakers, if there are at least
    five. Exit code 1 if any of them failed in the test: all of its words then count as deleted.
    """
    with refusing(FloatingPointError, RuntimeError):
        require("tiny-audio adapt", "train")
        require("tiny-audio adapt", "eval")
        from tiny_audio.evaluate.view import show_comparison
        from tiny_audio.train.adapt import adapt as run

        found = run(model, data, out, minutes, device)
    show(show_comparison((f"{model}, before", "after"), found))
    for reason, count in found["dropped"].items():
        say(f"left out of the test: {count} × {reason}")
    for reason, count in found["failed"].items():
        say(f"failed in the test, so all words count as deleted: {count} × {reason}")
    say(verdict(found["overall"], out))
    if found["failed"]:
        raise typer.Exit(1)


def verdict(overall: dict[str, Any], out: Path) -> str:
    """Return what the comparison says; a difference whose interval holds 0 is called no gain."""
    if overall["a"]["rate"] == overall["b"]["rate"] == 0:
        return "Neither model makes an error on the test clips: keep the model that you had."
    low, high = overall["difference"]["low"], overall["difference"]["high"]
    use = f"{typed_command()} transcribe --model {out / 'run' / 'model'} FILE"
    if low is not None and low > 0:
        return f"The adapted model makes fewer errors on the test clips. Use it: {use}"
    if high is not None and high < 0:
        return "The adapted model makes more errors on the test clips: keep the model that you had."
    return (
        "The difference may be chance: its 95 % interval contains 0. Try more clips or more "
        f"minutes. You can still use the adapted model: {use}"
    )
