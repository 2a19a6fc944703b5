"""Training a recogniser in a few minutes on two cores, offline (`tiny-audio quickstart`).

A fresh projector between nano's frozen encoder and decoder learns on the embedded corpus,
through the same recipe, loop and checkpoint as every other run.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiny_audio.files import LOCK, held, read_json
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.errors import ConfigError
from tiny_audio.progress import typed_command, written
from tiny_audio.train.experiments import EMBEDDED
from tiny_audio.train.experiments import quickstart as recipe_of
from tiny_audio.train.run import train
from tiny_audio.train.screen import Rows, say

CPU_PROCESSES = 2
# Options with which `eval` does what evaluations of a run do: it keeps every text, cuts nothing,
# and compares words without case and punctuation.
AS_MEASURED = "--beams {beams} --normalizer plain --min-logprob -99 --whole"


def quickstart(output: Path, minutes: float | None, fresh: bool) -> dict[str, Any]:
    """Train, score all held-out clips, transcribe one with the saved model; return the scores."""
    began_s = time.monotonic()
    processes = 1 if torch.cuda.is_available() else CPU_PROCESSES
    recipe = recipe_of()
    stage = recipe.stages["projector"]
    if minutes is not None:
        stage = replace(stage, minutes=minutes)
    recipe = replace(recipe, output=str(output), stages={"projector": stage})
    say("A new projector is trained between nano's encoder and nano's language model.")
    with held(output):
        if fresh:
            forget(output)
        train(recipe, processes, Rows())
    cure = f"Repeat the command: tiny-audio quickstart --out {output}"
    needs = ("wer", "clips", "words", "voices", "beams")
    result = read_json(output / "result.json", cure, needs)
    folder = EMBEDDED / "held-out"
    row = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    transcriber = Transcriber.from_pretrained(output / "model")
    text = transcriber.transcribe(folder / row["audio"], beams=result["beams"]).text
    report(output, result, (row["text"], text), time.monotonic() - began_s)
    return result


def forget(output: Path) -> None:
    """Delete an earlier run, and nothing that is not one."""
    there = [path for path in output.iterdir() if path.name != LOCK]
    if there and not (output / "recipe.yaml").exists():
        raise ConfigError(f"{output} is not the folder of a run; name another one with --out.")
    for path in there:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def report(output: Path, result: dict[str, Any], texts: tuple[str, str], seconds: float) -> None:
    """Print the figure with all that it depends on, the right text of a clip beside what the model
    writes for it, and what to type next.
    """
    model, beams = output / "model", result["beams"]
    command = typed_command()
    say(
        f"\nHeld-out voices: {result['wer']:.1%} WER with {beams} beams, normaliser plain "
        f"({result['clips']} clips, {result['words']} words, {result['voices']} voices that the "
        f"model was not trained on), after {seconds:.0f} s in all."
    )
    right, hypothesis = texts
    say(f"One of these clips: the right text is: {right}")
    say(f"{'':19}the saved model writes: {written(hypothesis)}")
    say(
        f"\nYour model: {model}   curves: {output / 'curves.png'}\n"
        f"  {command} transcribe --beams {beams} --model {model} FILE\n"
        f"  {command} doctor {output}\n"
        f"The same figure from the saved model:\n"
        f"  {command} eval {model} --dataset quickstart {AS_MEASURED.format(beams=beams)}"
    )
