"""Clips of a corpus: int16 samples at 16 kHz in shards that `recipes/nano/shards.py` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import CheckpointError


@dataclass(frozen=True)
class Clip:
    """One stored clip: where its samples lie, and its text."""

    path: Path
    offset: int
    num_samples: int
    text: str
    kind: str
    speaker: str

    @property
    def duration_s(self) -> float:
        return self.num_samples / SAMPLE_RATE

    def samples(self) -> np.ndarray:
        """Read the clip's float32 samples in -1..1."""
        count, start = self.num_samples, self.offset * 2
        stored = np.fromfile(self.path, np.int16, count=count, offset=start)
        if len(stored) < count:
            raise CheckpointError(f"{self.path} is cut off. Delete its .jsonl and make it again.")
        return stored.astype(np.float32) / 32768
