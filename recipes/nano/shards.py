"""Shards of int16 samples at 16 kHz with one row a clip, written whole and read in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiny_audio.data.cache import Clip
from tiny_audio.files import whole


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
