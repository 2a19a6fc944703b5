"""Options that several commands share: which model, where it computes, how it writes texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tiny_audio.infer.transcriber import Request

Model = Annotated[
    str,
    typer.Option(envvar="TINY_AUDIO_MODEL", help="tiny, nano, a checkpoint folder, or a Hub id."),
]
Prompt = Annotated[
    str | None, typer.Option(help="What to ask instead of the model's own instruction.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps …")]
Beams = Annotated[int, typer.Option(min=1, help="Texts to search among: 1 is greedy, 5 errs less.")]
CtcWeight = Annotated[
    float, typer.Option(min=0, help="Of a CTC head's say in the search: 0.3 is usual.")
]
AlignerFolder = Annotated[
    Path | None, typer.Option(help="Folder of the CTC head, if not the model's own.")
]
MinLogprob = Annotated[
    float, typer.Option(help="Text less sure than this a token is no speech; -99 keeps all.")
]
Whole = Annotated[bool, typer.Option("--whole", help="Hear as much at once as the encoder takes.")]


def refuse_idle(aligner: Path | None, request: Request) -> None:
    """A head that is named, and that nothing asks."""
    from tiny_audio.model.errors import ConfigError

    if aligner and request.timestamps != "word" and not request.ctc_weight:
        raise ConfigError(
            f"--aligner {aligner}: nothing asks this head. Give --beams 5 --ctc-weight 0.3, or (in "
            f"transcribe) --timestamps word."
        )
