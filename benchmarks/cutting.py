"""Where long audio is cut: `uv run python benchmarks/cutting.py [--model nano] [--manifest FILE]`.

Word errors of the quickstart's held-out clips (alone; two, six and 26, which are 70 s, in a row
with pauses of 0.3 to 1 s between them; six without), and of a manifest's clips, under several
tables of pauses (`CutPolicy.pauses`, the first is in use). `whole` cuts at the encoder's limit
only. The paused six and 26 are also transcribed with what lies below speech added: a constant, hum,
rumble. JSON Lines.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
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


# What is added to clips, as a function of time in seconds; levels are of full scale.
BELOW_SPEECH: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "3 % DC": lambda t: torch.full_like(t, 0.03),
    "50 Hz hum, -30 dB": lambda t: 0.045 * torch.sin(2 * torch.pi * 50 * t),
    "60 Hz hum, -30 dB": lambda t: 0.045 * torch.sin(2 * torch.pi * 60 * t),
    "20 Hz rumble, -20 dB": lambda t: 0.14 * torch.sin(2 * torch.pi * 20 * t),
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


def with_added(clips: list[Clip], kind: str) -> list[Clip]:
    """Clips with one of `BELOW_SPEECH`."""
    return [
        Clip(c.samples_N + BELOW_SPEECH[kind](torch.arange(len(c.samples_N)) / SAMPLE_RATE), c.text)
        for c in clips
    ]


def listed(manifest: str) -> list[Clip]:
    examples = read_source("listed", SourceConfig(path=manifest), Limits(), Dropped())
    return [Clip(torch.from_numpy(e.sound.samples()), e.text) for e in examples]


def measure(model: Cutter, clips: list[Clip]) -> dict[str, Any]:
    sources = [c.samples_N for c in clips]
    made = list(model.transcribe_many(sources, sampling_rate=SAMPLE_RATE))
    heard = ["" if isinstance(one, Failed) else one.text for one in made]
    errors = word_errors(
        [clean(c.text, "plain") for c in clips], [clean(text, "plain") for text in heard]
    )
    windows = [len(one.segments) for one in made if not isinstance(one, Failed)]
    return errors | {"wer": round(errors["wer"], 4), "windows": sum(windows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--manifest", default="", help="more clips, for example of slow readers")
    parser.add_argument("--clips", type=int, default=None, help="so many held-out clips, not all")
    parser.add_argument("--tables", type=int, default=len(PAUSES), help="so many tables of pauses")
    parser.add_argument("--only", default="", help="sets whose name has this in it")
    arguments = parser.parse_args()
    clips = held_out(arguments.clips)
    sets = {
        "alone": clips,
        "two, paused": list(in_rows(clips, 2, (0.3, 1.0))),
        "six, paused": list(in_rows(clips, 6, (0.3, 1.0))),
        "six, unpaused": list(in_rows(clips, 6, (0.0, 0.0))),
    }
    sets["26, paused"] = list(in_rows(clips, 26, (0.3, 1.0)))
    for rows in ("six, paused", "26, paused"):
        sets |= {f"{rows}, {kind}": with_added(sets[rows], kind) for kind in BELOW_SPEECH}
    if arguments.manifest:
        sets["manifest"] = listed(arguments.manifest)
    model = Cutter.from_pretrained(arguments.model)
    longest_s = policy_of(model.model.config.encoder).longest_s
    for pauses, table in list(PAUSES.items())[: arguments.tables]:
        model.chosen = CutPolicy(longest_s, pauses=table)
        for name, listened in sets.items():
            if arguments.only not in name:
                continue
            row = {"pauses": pauses, "set": name, **measure(model, listened)}
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
