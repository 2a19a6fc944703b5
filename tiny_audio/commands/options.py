"""The options that several commands share: model, device, and decoding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    import torch

    from tiny_audio.infer.request import Request
    from tiny_audio.infer.transcriber import Transcriber

Model = Annotated[
    str,
    typer.Option(
        envvar="TINY_AUDIO_MODEL",
        help="The model: tiny, nano, the folder of a checkpoint, or a Hub id.",
    ),
]
Prompt = Annotated[
    str | None, typer.Option(help="Instruction to give in place of the model's own.")
]
Hotwords = Annotated[
    str,
    typer.Option(help="Words that are likely to be said, separated by commas: 'Ada,Grace Hopper'."),
]
Channel = Annotated[
    int | None, typer.Option(help="Channel to use, counted from 0; by default the mean of all.")
]
AllowTruncated = Annotated[
    bool, typer.Option("--allow-truncated", help="Use the readable part of a damaged file.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps …")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "int8"],
    typer.Option(
        help=(
            "Data type of frozen weights. bfloat16 needs half the memory, and less time if the "
            "processor computes in bfloat16. int8 (CPU only) stores the decoder's weights in eight "
            "bits: less memory, and less time for single clips. Texts may differ from float32."
        ),
    ),
]
Beams = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Beam width: 1 is greedy; 5 makes fewer errors and takes longer.",
        show_default="the model's own",
    ),
]
CtcWeight = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Weight of the CTC head in beam search; 0.3 is typical, and 0 leaves it out.",
        show_default="the model's own",
    ),
]
AlignerFolder = Annotated[
    Path | None, typer.Option(help="Folder of a CTC head to use in place of the model's own.")
]
MinLogprob = Annotated[
    float | None,
    typer.Option(
        help=(
            "Lowest mean log-probability per token. A text below it counts as no speech, unless "
            "a CTC head finds the text in the sound. -99 keeps every text."
        ),
        show_default="the model's own",
    ),
]
Whole = Annotated[
    bool,
    typer.Option("--whole", help="Cut audio only at the encoder's limit, and not in pauses."),
]


def torch_dtype(name: str) -> torch.dtype:
    """Return the type of torch that an option names."""
    import torch

    found: torch.dtype = getattr(torch, name)
    return found


def words_of(hotwords: str) -> tuple[str, ...]:
    """Return the words of an option, which has commas between them."""
    return tuple(word for word in hotwords.split(",") if word.strip())


def ready(
    model: str, request: Request, aligner: Path | None, device: str, dtype: Dtype = "float32"
) -> Transcriber:
    """Load a model, and refuse now what the first window of a request would be refused for."""
    from tiny_audio.infer.transcriber import Transcriber

    transcriber = Transcriber.from_pretrained(
        model, head=aligner, device=device, dtype=torch_dtype(dtype)
    )
    transcriber.check(request)
    refuse_idle(aligner, request, transcriber)
    return transcriber


def refuse_idle(aligner: Path | None, request: Request, transcriber: Transcriber) -> None:
    """Refuse a head that is named and that nothing uses with this model."""
    from tiny_audio.model.errors import ConfigError

    used = request.timestamps == "word" or transcriber.decoding(request).ctc_weight
    if aligner and not used:
        raise ConfigError(
            f"--aligner {aligner}: nothing uses this head. Give --beams 5 --ctc-weight 0.3, or (in "
            f"transcribe) --timestamps word."
        )
