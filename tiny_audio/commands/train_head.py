"""`tiny-audio train-head`: a CTC head on an encoder, which may train with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiny_audio.commands import refusing, require, say

Model = Annotated[
    str,
    typer.Argument(
        help=(
            "Model whose encoder the head belongs to: nano, the folder of a checkpoint, or, "
            "with --encoder, a preset."
        )
    ),
]
Data = Annotated[
    list[str],
    typer.Option(
        help=(
            "Manifest or folder of clips. PATH=0.6 gives it this share of training; repeat "
            "it for more."
        )
    ),
]
Encoder = Annotated[
    str, typer.Option(help="Encoder to use in place of the preset's: a folder or a Hub id.")
]
Head = Annotated[str, typer.Option(help="Folder of a head to begin with, in place of a fresh one.")]
Rate = Annotated[
    float | None, typer.Option(help="Learning rate of the head; by default the usual one.")
]
Validation = Annotated[
    str,
    typer.Option(help="Clips for the test; without it, those of some speakers of --data."),
]
Speakers = Annotated[
    int, typer.Option(help="Number of speakers for the test, if --validation is not given.")
]
Minutes = Annotated[
    float, typer.Option(help="Training time in minutes, after the encoder has made its frames.")
]
EncoderRate = Annotated[
    float,
    typer.Option(help="Learning rate of the encoder, if it trains too; 0 keeps it frozen."),
]
FramesFolder = Annotated[Path, typer.Option(help="Folder in which frames are kept.")]
Seed = Annotated[
    int, typer.Option(help="Seed of the head's first weights and of the order of clips.")
]
Precision = Annotated[
    str,
    typer.Option(help="bf16, fp32, or auto, which chooses the one that is fast on this machine."),
]
Out = Annotated[Path, typer.Option(help="Folder for the run.")]
TrainDevice = Annotated[
    str,
    typer.Option(help="Where to compute; by default a GPU if there is one, otherwise the CPU."),
]


def train_head(
    model: Model,
    data: Data,
    encoder: Encoder = "",
    head: Head = "",
    learning_rate: Rate = None,
    validation: Validation = "",
    validation_speakers: Speakers = 4,
    minutes: Minutes = 5.0,
    encoder_rate: EncoderRate = 0.0,
    frames: FramesFolder = Path("runs/frames"),
    seed: Seed = 0,
    precision: Precision = "auto",
    out: Out = Path("runs/head"),
    device: TrainDevice = "",
) -> None:
    """Train a CTC head, which gives word times, and transcripts without a language model."""
    with refusing(FloatingPointError):
        require("tiny-audio train-head", "train")
        from tiny_audio.data.examples import SourceConfig
        from tiny_audio.data.mixture import DataConfig
        from tiny_audio.train.ctc_encoder import CHANGED
        from tiny_audio.train.head import chosen_model, stage_of
        from tiny_audio.train.head import train_head as run
        from tiny_audio.train.recipe import HeadRecipe

        held_out = {"held_out": SourceConfig(path=validation)} if validation else {}
        recipe = HeadRecipe.from_dict(
            {
                "model": chosen_model(model, encoder).to_dict(),
                "data": DataConfig(
                    sources={f"clips{n}": shared(d) for n, d in enumerate(data, 1)},
                    augment=CHANGED if encoder_rate else None,
                    validation=held_out,
                    validation_speakers=0 if validation else validation_speakers,
                ).to_dict(),
                "stage": stage_of(minutes, learning_rate, encoder_rate).to_dict(),
                "output": str(out),
                "frames": str(frames),
                "head": head,
                "seed": seed,
                "precision": precision,
                "device": device,
            }
        )
        result = run(recipe)
        rate = f"{result['wer']:.1%} WER (the head alone, normaliser plain)"
        say(f"{rate} on {result['clips']} clips. The head: {out / 'ctc'}")


def shared(given: str) -> Any:
    """The source that PATH names, or PATH=SHARE with its share of the training clips."""
    from tiny_audio.data.examples import SourceConfig

    path, _, share = given.rpartition("=")
    try:
        return SourceConfig(path=path, weight=float(share)) if path else SourceConfig(path=given)
    except ValueError:
        return SourceConfig(path=given)
