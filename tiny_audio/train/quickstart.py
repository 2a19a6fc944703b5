"""`tiny-audio quickstart`: a recogniser trained in three minutes on two cores, offline.

A fresh projector between nano's frozen encoder and decoder learns on the embedded corpus,
through the same recipe, loop and checkpoint as every other run.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tiny_audio.data.examples import Dropped, Example, Limits, read_source
from tiny_audio.data.text import clean
from tiny_audio.infer.results import Segment
from tiny_audio.infer.transcriber import Transcriber, Window
from tiny_audio.model.errors import ConfigError
from tiny_audio.train.experiments import quickstart as recipe_of
from tiny_audio.train.run import train
from tiny_audio.train.scores import word_errors
from tiny_audio.train.view import Rows, say

TOGETHER = 32  # clips


def quickstart(output: Path, minutes: float, fresh: bool, processes: int = 2) -> dict[str, Any]:
    """Train, score on all held-out clips, transcribe one; returns what result.json says."""
    began_s = time.monotonic()
    if fresh:
        forget(output)
    recipe = recipe_of()
    stage = replace(recipe.stages["projector"], minutes=minutes)
    recipe = replace(
        recipe, output=str(output), frames=str(output / "frames"), stages={"projector": stage}
    )
    say("A fresh projector learns to carry what nano's encoder hears to nano's language model.")
    train(recipe, processes, Rows())
    clips = read_source("held_out", recipe.data.validation["held_out"], Limits(), Dropped())
    result = score(Transcriber.from_pretrained(output / "model"), clips)
    result["seconds"] = round(time.monotonic() - began_s, 1)
    (output / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    report(output, result)
    return result


def forget(output: Path) -> None:
    """Delete an earlier run; nothing that is not one."""
    if output.exists() and not (output / "recipe.yaml").exists():
        raise ConfigError(f"{output} is not the folder of a run; name another one with --output.")
    shutil.rmtree(output, ignore_errors=True)


def score(transcriber: Transcriber, clips: list[Example]) -> dict[str, Any]:
    """Word errors of the saved model on all held-out clips."""
    ordered = sorted(clips, key=lambda clip: clip.duration_s)
    segments: list[Segment] = []
    for start in range(0, len(ordered), TOGETHER):
        sounds = [torch.from_numpy(c.sound.samples()) for c in ordered[start : start + TOGETHER]]
        segments += transcriber.transcribe_windows([Window(0, sound) for sound in sounds])
    texts = [clean(clip.text, "plain") for clip in ordered]
    heard = [clean(segment.text, "plain") for segment in segments]
    failed = Counter(s.outcome for s in segments if s.outcome != "ok")
    shown = len(ordered) // 2
    return {
        **word_errors(texts, heard),
        "voices": len({clip.speaker for clip in clips}),
        "failed": dict(failed),
        "example": {"text": texts[shown], "hypothesis": heard[shown]},
    }


def report(output: Path, result: dict[str, Any]) -> None:
    say(
        f"\nHeld-out voices: {result['wer']:.1%} WER ({result['clips']} clips, {result['words']} "
        f"words, {result['voices']} voices it never heard), after {result['seconds']:.0f} s in all."
    )
    say(f"  said   {result['example']['text']}\n  heard  {result['example']['hypothesis']}")
    say(
        f"\nYour model: {output / 'model'}   curves: {output / 'curves.png'}\n"
        f"  tiny-audio transcribe --model {output / 'model'} samples/01.flac\n"
        f"  tiny-audio doctor {output}"
    )
