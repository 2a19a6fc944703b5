"""What benchmarks of long and live audio listen to: the quickstart's held-out clips, joined."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import tiny_audio
from tiny_audio.model.audio import SAMPLE_RATE, load_audio

FOLDER = Path(tiny_audio.__file__).parent / "data" / "quickstart" / "held-out"
PAUSES_S = (0.2, 1.5)


class Clip(NamedTuple):
    """One sentence of an unheard voice."""

    samples_N: Tensor
    text: str


def held_out(num_clips: int | None = None, seed: int = 0) -> list[Clip]:
    """Clips in a shuffled order, so that the first ones are of all voices."""
    rows = [json.loads(line) for line in (FOLDER / "manifest.jsonl").read_text().splitlines()]
    random.Random(seed).shuffle(rows)
    return [
        Clip(load_audio(FOLDER / row["audio"]).samples, row["text"]) for row in rows[:num_clips]
    ]


def joined(clips: list[Clip], seconds: float, seed: int = 0) -> Iterator[Clip]:
    """Clips in random order, each with a random pause after it, for so long."""
    chance, num_samples = random.Random(seed), 0
    while num_samples < seconds * SAMPLE_RATE:
        clip = chance.choice(clips)
        pause_N = torch.zeros(round(chance.uniform(*PAUSES_S) * SAMPLE_RATE))
        yield Clip(torch.cat([clip.samples_N, pause_N]), clip.text)
        num_samples += len(clip.samples_N) + len(pause_N)
