"""`tiny-audio eval`: a model on a dataset, kept with everything needed to score it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiny_audio import DEFAULT_MODEL
from tiny_audio.commands import refusing, require, say
from tiny_audio.commands.decoding import (
    AlignerFolder,
    Beams,
    CtcWeight,
    Device,
    MinLogprob,
    Prompt,
    Whole,
    refuse_idle,
)


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            envvar="TINY_AUDIO_MODEL",
            help="tiny, nano, a folder, a Hub id, hf:ID, openai:URL#MODEL, or ctc:MODEL.",
        ),
    ] = DEFAULT_MODEL,
    dataset: Annotated[
        str, typer.Option(help="A name (tiny-audio datasets), a path, or hf:ID.")
    ] = "quickstart",
    prompt: Prompt = None,
    beams: Beams = None,
    ctc_weight: CtcWeight = None,
    whole: Whole = False,
    aligner: AlignerFolder = None,
    min_logprob: MinLogprob = None,
    max_samples: Annotated[int, typer.Option(min=0, help="So many clips; 0 is all.")] = 0,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Only such clips; repeat it for more."),
    ] = None,
    split: Annotated[str, typer.Option(help="Of a dataset that has splits.")] = "",
    normalizer: Annotated[str, typer.Option(help="What does not count.")] = "whisper-en",
    batch_s: Annotated[float, typer.Option(help="Seconds of audio answered at once.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="The folder of the run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the order of the clips.")] = 42,
    device: Device = "cpu",
) -> None:
    """Transcribe a dataset and score it. A run that was stopped goes on where it stopped.

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
        from tiny_audio.evaluate.systems import readable
        from tiny_audio.evaluate.view import Lines, show_result
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
        refuse_idle(aligner, how)
        result, folder = run(system(model, device, how, aligner), config, out, Lines())
        page = write_report(folder)
    Console(emoji=False).print(show_result(f"{model} on {config.name}", result))
    say(f"Open {page} in a browser; score it again: tiny-audio score {folder}")
    if result["scores"]["failed"]:
        raise typer.Exit(1)
