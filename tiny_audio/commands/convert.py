"""`tiny-audio convert`: a part from another tool, in the Hub's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiny_audio.commands import refusing


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help=(
                "What to convert: a GGUF file, a Whisper folder in CTranslate2's layout, or "
                "package:NAME/PATH."
            )
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new or empty.")],
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(
            help="Type in which weights are stored; by default one that changes no weight."
        ),
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
