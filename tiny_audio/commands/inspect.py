"""`tiny-audio inspect`: one training sample, token by token."""

from __future__ import annotations

from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, show
from tiny_audio.commands.options import Model


def inspect(
    place: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST:LINE", help="Manifest and number of a line in it, counted from 1."
        ),
    ],
    model: Model = DEFAULT_MODEL,
) -> None:
    """Show a training sample: ids, audio slots, labels, loss per token, and what the sound adds."""
    with refusing():
        from tiny_audio import load
        from tiny_audio.scope.trace.sample import inspect as look
        from tiny_audio.scope.trace.sample import parse_place, render

        sample = look(load(model), *parse_place(place))
    show(render(sample))
