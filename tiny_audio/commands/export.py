"""`tiny-audio export`: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, require, say

Exported = Annotated[
    str,
    typer.Argument(help="What to export: tiny, nano, the folder of a checkpoint, or a Hub id."),
]
Out = Annotated[Path, typer.Option(help="Folder to write.")]
To = Annotated[
    Literal["onnx", "merged"],
    typer.Option(
        help=(
            "onnx: encoder and projector as one graph (extra onnx). merged: everything in the "
            "Hub's layout, adapters in their layers."
        )
    ),
]
MergedDtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Type in which merged weights are stored; by default float32."),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Check the written files with the checkpoint's golden vectors."),
]
Dataset = Annotated[
    str,
    typer.Option(help="With --check, also compare texts on clips of this dataset (for onnx)."),
]
Clips = Annotated[int, typer.Option(min=1, help="Number of clips of that dataset to compare.")]


def export(
    model: Exported = DEFAULT_MODEL,
    out: Out = Path("runs/export"),
    to: To = "merged",
    dtype: MergedDtype = None,
    check: Check = False,
    dataset: Dataset = "",
    clips: Clips = 50,
) -> None:
    """Write a model for other runtimes, and measure how much its results differ.

    The exit code is 1 if a stage differs by more than a thousandth, or any text differs.
    """
    with refusing():
        import torch

        from tiny_audio.presets import load

        if dataset and not (check and to == "onnx"):
            from tiny_audio.model.errors import ConfigError

            raise ConfigError("--dataset is compared with --to onnx --check.")
        if check:
            require("tiny-audio export --check", "eval")
        loaded = load(model)
        if to == "merged":
            from tiny_audio.export.merged import export_merged

            made = export_merged(loaded, out, getattr(torch, dtype) if dtype else None)
        else:
            from tiny_audio.export.onnx import export_onnx
            from tiny_audio.model.merging import merge_adapters

            made = export_onnx(merge_adapters(loaded), out)
        typer.echo(str(made))
        if not check:
            return
        from tiny_audio.evaluate.datasets import dataset as named
        from tiny_audio.export.replay import replay_clips, replay_merged, replay_onnx

        if to == "merged":
            found = replay_merged(model, out)
        elif dataset:
            found = replay_clips(loaded, made, named(dataset), clips, out / "check")
        else:
            found = replay_onnx(loaded, made)
    for line in found.lines():
        say(line)
    if not found.good:
        raise typer.Exit(1)
