"""`tiny-audio eval`: a model on a dataset, kept with everything needed to score it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, require, say, show
from tiny_audio.commands.options import (
    AlignerFolder,
    Beams,
    CtcWeight,
    Device,
    Dtype,
    MinLogprob,
    Prompt,
    Whole,
    refuse_idle,
    torch_dtype,
)
from tiny_audio.progress import typed_command

Evaluated = Annotated[
    str,
    typer.Argument(
        envvar="TINY_AUDIO_MODEL",
        help=(
            "What to evaluate: tiny, nano, the folder of a checkpoint, a Hub id, another "
            "model as hf:ID, a server as openai:URL#MODEL, or a CTC head as ctc:MODEL or "
            "tokens:MODEL."
        ),
    ),
]
Dataset = Annotated[
    str,
    typer.Option(
        help=(
            "Clips to evaluate on: a name that tiny-audio datasets lists, a manifest, a "
            "folder, or hf:ID of a dataset on the Hub."
        )
    ),
]
MaxSamples = Annotated[int, typer.Option(min=0, help="Number of clips to evaluate; 0 means all.")]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Evaluate only clips with this value in this column. Repeat it to add conditions.",
    ),
]
Split = Annotated[str, typer.Option(help="Split to use, where the dataset has splits.")]
Normalizer = Annotated[
    str,
    typer.Option(help="Text normaliser applied before scoring, for example whisper-en or plain."),
]
BatchS = Annotated[float, typer.Option(min=0, help="Seconds of audio in one batch.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the run; without it one is made below runs/eval."),
]
Seed = Annotated[int, typer.Option(help="Seed of the order in which clips are drawn.")]


def evaluate(
    model: Evaluated = DEFAULT_MODEL,
    dataset: Dataset = "quickstart",
    prompt: Prompt = None,
    beams: Beams = None,
    ctc_weight: CtcWeight = None,
    whole: Whole = False,
    aligner: AlignerFolder = None,
    min_logprob: MinLogprob = None,
    max_samples: MaxSamples = 0,
    where: Where = None,
    split: Split = "",
    normalizer: Normalizer = "whisper-en",
    batch_s: BatchS = 60.0,
    out: Out = None,
    seed: Seed = 42,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Transcribe a dataset and score it. The same command continues a run that was stopped.

    Exit code 1 if any clip failed: all of its words then count as deleted.
    """
    with refusing(RuntimeError):  # torch refuses a device with a RuntimeError
        from dataclasses import replace

        require("tiny-audio eval", "eval")
        from tiny_audio.evaluate.datasets import dataset as named
        from tiny_audio.evaluate.evaluator import RunConfig
        from tiny_audio.evaluate.evaluator import evaluate as run
        from tiny_audio.evaluate.report import write_report
        from tiny_audio.evaluate.rivals import system
        from tiny_audio.evaluate.systems import OurModel, readable
        from tiny_audio.evaluate.view import Lines, decoding, show_result
        from tiny_audio.infer.transcriber import Request

        source = named(dataset)
        config = RunConfig(
            name=readable(dataset),
            source=replace(source, split=split or source.split),
            where=tuple(where or ()),
            max_samples=max_samples,
            prompt=prompt or "",
            seed=seed,
            normalizer=normalizer,
            batch_s=batch_s,
        )
        how = Request(min_logprob=min_logprob, beams=beams, ctc_weight=ctc_weight, whole=whole)
        opened = system(model, device, how, aligner, torch_dtype(dtype))
        if isinstance(opened, OurModel):
            refuse_idle(aligner, how, opened.transcriber)
        found = [decoding(opened.decoding())] if isinstance(opened, OurModel) else []
        result, folder = run(opened, config, out, Lines(", ".join([normalizer, *found])))
        page = write_report(folder)
    show(show_result(f"{model} on {config.name}", result))
    say(f"Open {page} in a browser; score it again: {typed_command()} score {folder}")
    if result["scores"]["failed"]:
        raise typer.Exit(1)
