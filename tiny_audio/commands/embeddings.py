"""`tiny-audio embeddings`: how far audio embeddings are from words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, say, show
from tiny_audio.commands.options import Model


def embeddings(
    file: Annotated[Path, typer.Argument(help="Audio file to look at.")],
    model: Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path(
        "embedding_distributions.png"
    ),
) -> None:
    """Draw three distributions: encoder frames, audio embeddings, and the decoder's own words."""
    with refusing():
        from tiny_audio import load
        from tiny_audio.scope.trace.embeddings import draw, embeddings_of, render

        found = embeddings_of(load(model), file)
        draw(found, out)
    show(render(found))
    say(f"Saved {out}")
