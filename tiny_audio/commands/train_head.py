"""`tiny-audio train-head`: a CTC head on an encoder, which may train with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tiny_audio.commands import refusing, require, say


def train_head(
    model: Annotated[
        str, typer.Argument(help="nano, a checkpoint folder, or (with --encoder) a preset.")
    ],
    data: Annotated[
        list[str], typer.Option(help="Manifest or folder; PATH=0.6 for its share; repeatable.")
    ],
    encoder: Annotated[
        str, typer.Option(help="Folder or Hub id that takes the place of the preset's encoder.")
    ] = "",
    head: Annotated[
        str, typer.Option(help="A head of this encoder to begin with, in place of a fresh one.")
    ] = "",
    learning_rate: Annotated[float | None, typer.Option(help="Of the head; else as usual.")] = None,
    validation: Annotated[
        str, typer.Option(help="Clips to measure on; else speakers of --data are set apart.")
    ] = "",
    validation_speakers: Annotated[
        int, typer.Option(help="How many speakers are set apart without --validation.")
    ] = 4,
    minutes: Annotated[float, typer.Option(help="Training time, after listening once.")] = 5.0,
    encoder_rate: Annotated[
        float, typer.Option(help="Learning rate of an encoder that trains too; 0: it is frozen.")
    ] = 0.0,
    frames: Annotated[Path, typer.Option(help="Where frames are kept.")] = Path("runs/frames"),
    seed: Annotated[int, typer.Option(help="Of the head and of the order of clips.")] = 0,
    precision: Annotated[
        str, typer.Option(help="bf16, fp32, or auto: what this machine is fast in.")
    ] = "auto",
    out: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("runs/head"),
    device: Annotated[str, typer.Option(help="Empty: a GPU if there is one, else cpu.")] = "",
) -> None:
    """Train a CTC head: transcripts without a language model, and the times of words."""
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
        say(f"{result['wer']:.1%} WER on {result['clips']} clips. The head: {out / 'ctc'}")


def shared(given: str) -> Any:
    """A source from PATH, or from PATH=SHARE of all that is heard."""
    from tiny_audio.data.examples import SourceConfig

    path, _, share = given.rpartition("=")
    try:
        return SourceConfig(path=path, weight=float(share)) if path else SourceConfig(path=given)
    except ValueError:
        return SourceConfig(path=given)
