"""`tiny-audio convert`: a part from another tool, in the Hub's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiny_audio.commands import refusing


def convert(
    source: Annotated[
        str, typer.Argument(help="A GGUF file, a CTranslate2 Whisper folder, or package:NAME/PATH.")
    ],
    out: Annotated[Path, typer.Option(help="The folder to write: new, or empty.")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="How weights are stored; by default so that none of them changes."),
    ] = None,
) -> None:
    """Write a language model (GGUF) or a whole Whisper (CTranslate2) in the Hub's layout."""
    with refusing():
        import torch

        from tiny_audio.parts.convert import convert as write

        made = write(source, out, getattr(torch, dtype) if dtype else None)
    for name, size in made.files():
        typer.echo(f"{made.folder / name}  {size:,} bytes")
    before = made.quantisation or "not quantised"
    typer.echo(
        f"{made.family}, {made.parameters:,} parameters in {str(made.dtype)[6:]}; was {before}"
    )
