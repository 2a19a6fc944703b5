"""Parts of a sound: a stretch of seconds, one channel, or both.

A sound is decoded from its start. Neighbouring stretches of one file share what was decoded, so
a recording of an hour is not decoded anew for each of its rows.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tiny_audio.data.sounds import FileSound, Stored, labelled, refuse_missing
from tiny_audio.model.audio import SAMPLE_RATE, stream_audio
from tiny_audio.model.errors import AudioError, Reason

BLOCK_S, BLOCK = 5.0, 5 * SAMPLE_RATE
KEPT_FILES, KEPT_S = 2, 900.0  # 58 MB each at most; what lies later in a file is decoded anew


@dataclass(frozen=True)
class PartSound(Stored):
    """A part of a sound. `end_s` None means to its end, `channel` None the mean of all."""

    whole: Stored
    start_s: float = 0.0
    end_s: float | None = None
    channel: int | None = None

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.whole.name

    def opened(self) -> AbstractContextManager[Any]:
        return self.whole.opened()

    def measure(self, enough_s: float) -> tuple[float, int]:
        """Return the seconds of the part, and the bytes of the whole."""
        whole_s, num_bytes = self.whole.measure(self.end_s or self.start_s + enough_s)
        end_s = whole_s if self.end_s is None else self.end_s
        if end_s > whole_s + 0.1 or self.start_s >= whole_s:
            raise self._beyond(whole_s)
        return end_s - self.start_s, num_bytes

    def samples(self) -> np.ndarray:
        if type(self.whole) is FileSound and self.end_s is not None and self.end_s <= KEPT_S:
            return self._cut(_kept(self.whole.name, self.channel))
        with self.opened() as source:
            return self._cut(_Decoded(labelled(self.name, source), self.channel))

    def _cut(self, decoded: _Decoded) -> np.ndarray:
        start = round(self.start_s * SAMPLE_RATE)
        end = None if self.end_s is None else round(self.end_s * SAMPLE_RATE)
        found, whole = decoded.between(start, end)
        if end is not None and whole + 0.1 * SAMPLE_RATE < end:
            raise self._beyond(whole / SAMPLE_RATE)
        refuse_missing(self.name, decoded.notes)
        return found

    def digest(self) -> str:
        part = f"{super().digest()} {self.start_s} {self.end_s} {self.channel}"
        return hashlib.sha256(part.encode()).hexdigest()

    def _beyond(self, whole_s: float) -> AudioError:
        end = "its end" if self.end_s is None else f"{self.end_s:g} s"
        return AudioError(
            f"{self.name}: ends before the stretch {self.start_s:g} s to {end} (it has "
            f"{whole_s:.2f} s). start and end, or offset and duration, are seconds in the file.",
            Reason.STRETCH,
        )


class _Decoded:
    """The blocks of a sound, decoded as far as they were asked for, and kept if `keep`."""

    def __init__(self, source: Any, channel: int | None, keep: bool = False) -> None:
        self.notes: list[str] = []
        self.rest: Iterator[Tensor] = stream_audio(
            source, block_s=BLOCK_S, channel=channel, notes=self.notes
        )
        self.keep = keep
        self.blocks: list[np.ndarray] = []
        self.num_samples = 0
        self.error: AudioError | None = None
        self.lock = threading.Lock()

    def between(self, start: int, end: int | None) -> tuple[np.ndarray, int]:
        """Return the samples from `start` to `end`, and how many were decoded."""
        first, after = start // BLOCK, None if end is None else -(-end // BLOCK)
        with self.lock:
            while (after is None or len(self.blocks) < after) and self._next(first):
                pass
            joined = np.concatenate([np.empty(0, np.float32), *self.blocks[first:after]])
            found = joined[start - first * BLOCK : None if end is None else end - first * BLOCK]
            return found.copy(), self.num_samples

    def _next(self, first: int) -> bool:
        """Decode one more block; return whether there was one. Those before `first` are dropped."""
        if self.error:
            raise self.error
        try:
            block = next(self.rest, None)
        except AudioError as error:
            self.error = error
            raise
        if block is None:
            return False
        self.num_samples += len(block)
        used = self.keep or len(self.blocks) >= first
        self.blocks.append(block.numpy() if used else np.empty(0, np.float32))
        return True


_files: OrderedDict[tuple[Any, ...], _Decoded] = OrderedDict()
_files_lock = threading.Lock()


def _kept(path: str, channel: int | None) -> _Decoded:
    """Return the file with what was decoded of it; another version counts as another file."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return _Decoded(path, channel)  # which says what is wrong with it
    key = (path, state.st_mtime_ns, state.st_size, state.st_ino, channel, os.getpid())
    with _files_lock:
        if key not in _files or _files[key].error:
            _files[key] = _Decoded(path, channel, keep=True)
        _files.move_to_end(key)
        while len(_files) > KEPT_FILES:
            _files.popitem(last=False)
        return _files[key]
