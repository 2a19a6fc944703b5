"""The kinds of `Sound`: a file, a member of a tar, bytes, a row of a dataset, a clip of a corpus.
Each is measured by its header and decoded only when its samples are asked for. `stretches.py` has
parts.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny_audio.data.cache import Clip
from tiny_audio.data.manifest import Unusable
from tiny_audio.model.audio import (
    MAX_CHANNELS,
    MAX_RATE,
    MIN_RATE,
    SAMPLE_RATE,
    STREAM_LIMITS,
    load_audio,
    stream_audio,
)
from tiny_audio.model.decode import open_file
from tiny_audio.model.errors import AudioError, CheckpointError, Reason
from tiny_audio.model.source import Note, Origin

MOST_MISSING_S = 0.1  # of a clip's sound: headers are off by as much


class Stored(ABC):
    """Encoded audio somewhere. `opened()` lends it as what the decoder reads: path, bytes, file."""

    name: str  # in messages

    @abstractmethod
    def opened(self) -> AbstractContextManager[Any]:
        """Lend the source; raise `AudioError` when it is gone."""

    def measure(self, enough_s: float) -> tuple[float, int]:
        """Return seconds and stored bytes; raise `AudioError` if the source is no audio.

        A header that does not tell the length costs decoding, up to `enough_s` and not much more.
        """
        with self.opened() as source:
            seconds = _header_s(self.name, source)
            if seconds is None:
                seconds = _counted_s(labelled(self.name, source), enough_s)
            return seconds, _num_bytes(source)

    def samples(self) -> np.ndarray:
        """Return all samples, mono float32 at 16 kHz: the text belongs to the whole sound."""
        with self.opened() as source:
            audio = load_audio(labelled(self.name, source))
        refuse_missing(self.name, audio.notes)
        return audio.samples.numpy()

    def digest(self) -> str:
        """Return the SHA-256 of the stored bytes."""
        with self.opened() as source, ExitStack() as stack:
            if isinstance(source, str):
                source = stack.enter_context(_open(source))
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class FileSound(Stored):
    """A file."""

    name: str

    @contextmanager
    def opened(self) -> Iterator[str]:
        yield self.name


@dataclass(frozen=True)
class TarSound(Stored):
    """A member of a tar, read where it lies."""

    path: str
    member: str
    offset: int
    size: int

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"{self.path}:{self.member}"

    @contextmanager
    def opened(self) -> Iterator[Region]:
        with _open(self.path) as file:
            yield Region(file, self.offset, self.size)


@dataclass(frozen=True)
class BytesSound(Stored):
    """The bytes of a file, in memory."""

    name: str
    data: bytes

    @contextmanager
    def opened(self) -> Iterator[bytes]:
        yield self.data


@dataclass(frozen=True)
class HubSound(Stored):
    """The audio of one row of a `datasets.Dataset` that does not decode: its bytes or its path."""

    name: str
    dataset: Any
    index: int
    column: str

    @contextmanager
    def opened(self) -> Iterator[bytes | str]:
        yield audio_in(self.dataset[self.index][self.column])


@dataclass(frozen=True)
class CorpusSound(Stored):
    """A clip of a corpus made by this library: 16-bit samples at 16 kHz, nothing to decode."""

    name: str
    clip: Clip

    @contextmanager
    def opened(self) -> Iterator[Region]:
        with _open(str(self.clip.path)) as file:
            yield Region(file, self.clip.offset * 2, self.clip.num_samples * 2)

    def measure(self, enough_s: float) -> tuple[float, int]:
        with self.opened() as source:
            if source.start + source.size > os.fstat(source.file.fileno()).st_size:
                raise AudioError(f"{self.name}: cut off. Make the corpus again.", Reason.DAMAGED)
        return self.clip.duration_s, source.size

    def samples(self) -> np.ndarray:
        try:
            return self.clip.samples()
        except (CheckpointError, OSError) as error:
            message = f"{self.name}: cut off. Make the corpus again."
            raise AudioError(message, Reason.DAMAGED) from error


def audio_in(value: Any) -> bytes | str:
    """Return the bytes or the path that a dataset's row holds, as {bytes, path} or alone."""
    if isinstance(value, dict):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if not isinstance(value, bytes | str):
        raise Unusable("no audio")
    return value


class Region(io.RawIOBase):
    """A part of an open file as a file of its own: `size` bytes from `start` on."""

    def __init__(self, file: io.FileIO, start: int, size: int) -> None:
        self.file, self.start, self.size, self.at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.start + self.at)
        num_left = max(0, self.size - self.at)
        num_read = self.file.readinto(memoryview(buffer)[:num_left])
        self.at += num_read
        return num_read


def refuse_missing(name: str, notes: Iterable[str]) -> None:
    """Raise an `AudioError` with the reason of the first note that says that sound is missing."""
    for note in notes:
        if isinstance(note, Note) and note.missing_s + note.silent_s > MOST_MISSING_S:
            cure = "Repair the file, or leave it out: its text belongs to the whole sound"
            raise AudioError(f"{name}: {note}. {cure}.", note.reason)


def _open(path: str) -> io.FileIO:
    try:
        return io.FileIO(path)
    except OSError as error:
        message = f"{path}: no such file ({error}). Was it moved?"
        raise AudioError(message, Reason.NO_FILE) from error


def labelled(name: str, source: Any) -> Any:
    """Return the source in the form that makes `load_audio` name it in messages."""
    return source if isinstance(source, str) else {"bytes": source, "path": name}


def _num_bytes(source: str | bytes | Region) -> int:
    if isinstance(source, str):
        return os.stat(source).st_size
    return source.size if isinstance(source, Region) else len(source)


def _header_s(name: str, source: Any) -> float | None:
    """Return the seconds that the header announces for the whole file.

    It is None if the header states no length or an impossible one, or only the length of the
    first of several recordings.
    """
    with ExitStack() as stack:
        decoded = open_file(Origin(name, STREAM_LIMITS), source, stack, whole=True)
        sound = MIN_RATE <= decoded.rate <= MAX_RATE and 1 <= decoded.channels <= MAX_CHANNELS
        return decoded.promised / decoded.rate if sound and decoded.promised else None


def _counted_s(source: Any, enough_s: float) -> float:
    """Count seconds by decoding, which also says what is wrong with an impossible header."""
    num_samples = 0
    for block in stream_audio(source, block_s=5.0):
        num_samples += len(block)
        if num_samples > enough_s * SAMPLE_RATE:
            break
    return num_samples / SAMPLE_RATE
