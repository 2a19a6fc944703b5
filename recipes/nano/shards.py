"""Shards of int16 samples at 16 kHz with one row a clip, written whole and read in order."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiny_audio.data.cache import Clip


def write_shard(
    folder: Path, shard: int, clips: Sequence[np.ndarray], rows: Sequence[dict[str, Any]]
) -> None:
    """Write samples first and rows last: a shard exists when its rows do."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"shard-{shard:05d}"
    temporary = path.with_suffix(".tmp")
    np.concatenate(clips).astype(np.int16).tofile(temporary)
    os.replace(temporary, path.with_suffix(".i16"))
    offsets = np.cumsum([0, *(len(c) for c in clips)])
    with temporary.open("w") as file:
        for row, offset, clip in zip(rows, offsets, clips, strict=False):
            file.write(json.dumps({**row, "offset": int(offset), "samples": len(clip)}) + "\n")
    os.replace(temporary, path.with_suffix(".jsonl"))


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
