"""Frames on disk: a frozen encoder computes them once, and training reads them many times.

A folder holds shards of frames in bfloat16, each a safetensors file that names its clips. It
belongs to one encoder with one front end (`about.json`); a clip is found by what is stored of its
sound and by how it was augmented, so a changed file or another augmentation is another clip.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tiny_audio.data.augment import Augment
from tiny_audio.data.examples import Sound
from tiny_audio.files import read_json, write_json
from tiny_audio.model.config import fingerprint
from tiny_audio.model.encoder import AudioEncoder
from tiny_audio.model.errors import CheckpointError
from tiny_audio.model.identity import encoder_key
from tiny_audio.train.saves import check_sum, write_checked

SHARD_BYTES = 64 * 2**20
AGAIN = "Delete this file: its frames are made again."


class Place(NamedTuple):
    """The place of a clip's frames."""

    path: Path
    first: int
    number: int


def clip_key(sound: Sound, how: Augment | None, seed: int) -> str:
    """Return the key of the stored sound, and of the augmentation with its seed if there is one."""
    change = "" if how is None else json.dumps([asdict(how), seed])
    return hashlib.sha256(f"{sound.digest()} {change}".encode()).hexdigest()[:32]


class FrameCache:
    """A store of frames (T, E) in bfloat16, by the key of their clip."""

    def __init__(self, folder: Path, encoder: AudioEncoder):
        self.folder, self.width = folder, encoder.config.width
        self._places: dict[str, Place] = {}
        self._files: dict[Path, Any] = {}
        self._checked: set[Path] = set()
        self._waiting: list[tuple[str, Tensor]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._check(encoder_key(encoder))
        self.refresh()

    def _check(self, key: dict[str, Any]) -> None:
        about = self.folder / "about.json"
        if not about.exists():
            write_json(about, key)
        cure = f"Delete the folder {self.folder}: its frames are made again."
        if (found := read_json(about, cure)) != key:
            changed = [name for name in key if found.get(name) != key[name]]
            raise CheckpointError(
                f"{self.folder} holds frames of another encoder (its {' and '.join(changed)} "
                f"differ). Delete the folder, or name another one with frames=FOLDER."
            )

    def refresh(self) -> None:
        """Learn about all shards that are there, also those of other processes."""
        for path in sorted(self.folder.glob("*.safetensors")):
            if path not in self._files:
                file, first = self._open(path), 0
                for key, count in _rows(path, file):
                    self._places[key] = Place(path, first, count)
                    first += count

    def _open(self, path: Path) -> Any:
        try:
            file = safe_open(path, "pt").__enter__()  # stays open: reads are by memory map
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}). {AGAIN}") from error
        self._files[path] = file
        return file

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def num_frames(self, key: str) -> int:
        return self._places[key].number

    def __getitem__(self, key: str) -> Tensor:
        path, first, count = self._places[key]
        if path not in self._checked:  # once, when the shard is first needed
            file = self._files[path]
            frames = {"frames": file.get_tensor("frames")}
            check_sum(path, frames, file.metadata(), AGAIN)
            self._checked.add(path)
        return self._files[path].get_slice("frames")[first : first + count]

    def add(self, clips: Iterable[tuple[str, Tensor]]) -> None:
        """Keep frames (T, E) under their keys; they are read back after `flush`."""
        for key, frames in clips:
            if not frames.isfinite().all():
                raise CheckpointError(
                    f"The encoder makes NaN or Inf of a clip of {len(frames)} frames, on which "
                    f"nothing can train. Use precision=fp32, or leave the clip out."
                )
            self._waiting.append((key, frames.to(torch.bfloat16).cpu()))
        if sum(frames.nbytes for _, frames in self._waiting) > SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one shard: it is there whole, or not at all."""
        if not self._waiting:
            return
        rows = [(key, len(frames)) for key, frames in self._waiting]
        name = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
        path = self.folder / f"{name}.safetensors"
        frames = torch.cat([frames for _, frames in self._waiting])
        write_checked(path, {"frames": frames}, {"clips": json.dumps(rows)})
        self._waiting = []
        self.refresh()


def _rows(path: Path, file: Any) -> list[tuple[str, int]]:
    """Return the keys and numbers of frames of a shard's clips."""
    try:
        return [(str(key), int(count)) for key, count in json.loads(file.metadata()["clips"])]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no shard of frames ({error!r}). {AGAIN}") from error


def cache_in(folder: Path, encoder: AudioEncoder) -> FrameCache:
    """Return the cache of this encoder, in a folder that may hold those of others too."""
    return FrameCache(folder / fingerprint(encoder_key(encoder))[:12], encoder)
