"""`tiny-audio projectors`: projectors side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio.commands import refusing, show


def projectors(
    configs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[kind=swiglu,k=5,hidden=8192]…",
            help="Projectors to compare; by default one of each kind.",
        ),
    ] = None,
    encoder_dim: Annotated[int, typer.Option(min=1, help="Width of the encoder's frames.")] = 1280,
    decoder_dim: Annotated[int, typer.Option(min=1, help="Width of the language model.")] = 2048,
    seconds: Annotated[
        float, typer.Option(help="Length of the clip in seconds; it has 50 frames per second.")
    ] = 3.0,
) -> None:
    """Compare projectors: parameters, positions, compression, milliseconds per position."""
    with refusing():
        from tiny_audio.scope.plan.projectors import compare, kinds, parse, render

        chosen = [parse(text) for text in configs or []] or kinds()
        rows = compare(chosen, encoder_dim, decoder_dim, seconds)
    show(render(rows, encoder_dim, decoder_dim))
