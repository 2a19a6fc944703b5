"""Where long audio is cut: `uv run python benchmarks/cutting.py [--model nano] [--manifest FILE]`.

Word errors of the quickstart's held-out clips (alone, two and six in a row with pauses of 0.3 to
1 s between them, six without), and of a manifest's clips, under several tables of pauses
(`CutPolicy.pauses`, the first is in use). `whole` cuts at the encoder's limit only. JSON Lines.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from typing import Any

import torch
from held_out import Clip, held_out

from tiny_audio.data.examples import Dropped, Limits, SourceConfig, read_source
from tiny_audio.data.text import clean
from tiny_audio.evaluate.metrics import word_errors
from tiny_audio.infer.jobs import Failed
from tiny_audio.infer.longform import CutPolicy, policy_of
from tiny_audio.infer.transcriber import Transcriber
from tiny_audio.model.audio import SAMPLE_RATE

PAUSES = {
    "350, 200 from 2.5 s, 100 from 5 s": ((0.0, 0.35), (2.5, 0.2), (5.0, 0.1)),
    "500, 200 from 2.5 s, 100 from 5 s": ((0.0, 0.5), (2.5, 0.2), (5.0, 0.1)),
    "500, 200 from 3.5 s, 100 from 5 s": ((0.0, 0.5), (3.5, 0.2), (5.0, 0.1)),
    "500, 200 from 4 s, 100 from 5.5 s": ((0.0, 0.5), (4.0, 0.2), (5.5, 0.1)),
    "500, 200 from 5 s, 100 from 7.5 s": ((0.0, 0.5), (5.0, 0.2), (7.5, 0.1)),
    "700, 350 from 5 s, 100 from 8 s": ((0.0, 0.7), (5.0, 0.35), (8.0, 0.1)),
    "whole": ((0.0, 1e6),),
}


class Cutter(Transcriber):
    """Cuts as it is told."""

    chosen: CutPolicy

    @property
    def policy(self) -> CutPolicy:
        return self.chosen


def in_rows(clips: list[Clip], number: int, pause_s: tuple[float, float]) -> Iterator[Clip]:
    """So many clips one after another, with a pause behind each."""
    chance = random.Random(number)
    for first in range(0, len(clips), number):
        parts, row = [], clips[first : first + number]
        for clip in row:
            parts += [clip.samples_N, torch.zeros(round(chance.uniform(*pause_s) * SAMPLE_RATE))]
        yield Clip(torch.cat(parts), " ".join(clip.text for clip in row))


def listed(manifest: str) -> list[Clip]:
    examples = read_source("listed", SourceConfig(path=manifest), Limits(), Dropped())
    return [Clip(torch.from_numpy(e.sound.samples()), e.text) for e in examples]


def measure(model: Cutter, clips: list[Clip]) -> dict[str, Any]:
    made = model.transcribe_many([c.samples_N for c in clips], sampling_rate=SAMPLE_RATE)
    heard = ["" if isinstance(one, Failed) else one.text for one in made]
    errors = word_errors(
        [clean(c.text, "plain") for c in clips], [clean(text, "plain") for text in heard]
    )
    return errors | {"wer": round(errors["wer"], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--manifest", default="", help="more clips, for example of slow readers")
    arguments = parser.parse_args()
    clips = held_out()
    sets = {
        "alone": clips,
        "two, paused": list(in_rows(clips, 2, (0.3, 1.0))),
        "six, paused": list(in_rows(clips, 6, (0.3, 1.0))),
        "six, unpaused": list(in_rows(clips, 6, (0.0, 0.0))),
    }
    if arguments.manifest:
        sets["manifest"] = listed(arguments.manifest)
    model = Cutter.from_pretrained(arguments.model)
    longest_s = policy_of(model.model.config.encoder).longest_s
    for pauses, table in PAUSES.items():
        model.chosen = CutPolicy(longest_s, pauses=table)
        for name, listened in sets.items():
            row = {"pauses": pauses, "set": name, **measure(model, listened)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
