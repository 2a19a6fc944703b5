"""Clips on disk: shards of int16 samples at 16 kHz, read clip by clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiny_audio.files import whole
from tiny_audio.model.audio import SAMPLE_RATE
from tiny_audio.model.errors import CheckpointError


def write_shard(
    folder: Path, shard: int, clips: Sequence[np.ndarray], rows: Sequence[dict[str, Any]]
) -> None:
    """Write samples first and rows last: a shard exists when its rows do."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard-{shard:05d}"
    with whole(path.with_suffix(".i16")) as temporary:
        # `tofile` says nothing of a full disk.
        temporary.write_bytes(np.concatenate(clips).astype(np.int16).data)
    offsets = np.cumsum([0, *(len(c) for c in clips)])
    with whole(path.with_suffix(".jsonl")) as temporary, temporary.open("w") as file:
        for row, offset, clip in zip(rows, offsets, clips, strict=False):
            file.write(json.dumps({**row, "offset": int(offset), "samples": len(clip)}) + "\n")


@dataclass(frozen=True)
class Clip:
    """One stored clip: where its samples lie, and what it says."""

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
        """float32 samples in -1..1."""
        count, start = self.num_samples, self.offset * 2
        stored = np.fromfile(self.path, np.int16, count=count, offset=start)
        if len(stored) < count:
            raise CheckpointError(f"{self.path} is cut off. Delete its .jsonl and make it again.")
        return stored.astype(np.float32) / 32768


def open_store(folder: Path) -> list[Clip]:
    """All clips of a folder's finished shards, in order."""
    clips = []
    for path in sorted(folder.glob("shard-*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            clips.append(
                Clip(
                    path.with_suffix(".i16"),
                    row["offset"],
                    row["samples"],
                    row["text"],
                    row["kind"],
                    row["speaker"],
                )
            )
    return clips
