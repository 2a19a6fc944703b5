"""The bytes of a source, the limits on them, and the notes about what was lost or changed.

Whatever decoding loses, finds or changes is written into an `Origin` as a `Note`: a text with its
reason and with the seconds that are missing. So nothing is lost without a word (decision 037).
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, Reason

BLOCK_VALUES = 2**14  # values (frames x channels) decoded at once
MOST_PIPED_BYTES = 2**30  # a pipe cannot be read twice, so it is held in memory
SCAN_BYTES, OVERLAP_BYTES = 2**20, 2**14  # searched at once, and beyond that for what is cut there

Block = NDArray[np.float32]  # (frames, channels), or (frames,) once mono
Chunk = tuple[int, Block]  # its sampling rate and (frames, channels): both may change in a file


@dataclass(frozen=True)
class DecodeLimits:
    """The limits of one source. Half an hour is 115 MB: with torch loaded, a process below 1 GB."""

    max_seconds: float = 1_800.0
    max_bytes: int = 2**30


class Note(str):
    """A text about a source, with its reason and the seconds of sound that are lost.

    `missing_s` of them are not in the samples; in the place of `silent_s` there is silence.
    """

    reason: Reason
    missing_s: float
    silent_s: float

    def __new__(
        cls,
        text: str,
        reason: Reason = Reason.UNREADABLE,
        missing_s: float = 0.0,
        silent_s: float = 0.0,
    ) -> Note:
        note = super().__new__(cls, text)
        note.reason, note.missing_s, note.silent_s = reason, missing_s, silent_s
        return note


@dataclass
class Origin:
    """The name of a source in messages, its limits, and what decoding has noted about it.

    `track` is the audio track to take, from 1; None is the container's own choice. `problem` is
    the first loss, and the source is refused for it if it is `damaged` or much is lost.
    """

    name: str
    limits: DecodeLimits
    notes: list[str] = field(default_factory=list)
    track: int | None = None
    problem: str = ""
    damaged: bool = False
    lost_s: float = 0.0

    def error(self, problem: str, cure: str, reason: Reason = Reason.UNREADABLE) -> AudioError:
        """Make the error of this source."""
        return AudioError(f"{self.name}: {problem}. {cure}.", reason)

    def note(self, text: str, reason: Reason) -> None:
        """Write down what must be known, once."""
        if text not in self.notes:
            self.notes.append(Note(text, reason))

    def lose(
        self, text: str, missing_s: float, silent_s: float = 0.0, damaged: bool = False
    ) -> None:
        """Write down that sound is lost; `damaged` refuses the source however short it is."""
        missing_s = max(0.0, missing_s)
        self.notes.append(Note(text, Reason.DAMAGED, missing_s, silent_s))
        self.problem = self.problem or text
        self.damaged |= damaged
        self.lost_s += missing_s + silent_s


@dataclass
class Decoded:
    """An open source: its chunks, and how many frames of the first rate its header announces."""

    chunks: Iterator[Chunk]
    rate: int
    channels: int
    promised: int | None = None


class DamageError(Exception):
    """Decoding stopped before the end of the data."""


class Reader:
    """The bytes of a file, or of a part of it, as the decoders see them: no name, no exceptions.

    An exception inside a decoder's callback would be printed and lost; it is kept in `failure`.
    `patches` are bytes that decoders see instead of the stored ones. `ignore_length` makes an mp3
    look 1024 times longer and blanks the length header: libsndfile stops at the length it guesses,
    which for variable bit rates was a third of the clip.
    """

    def __init__(self, raw: Any, start: int = 0, end: int | None = None) -> None:
        self.raw, self.start, self.failure, self.at = raw, start, "", 0
        self.end = (int(raw.seek(0, os.SEEK_END)) if end is None else end) - start
        self.claimed_end = self.end
        self.patches: dict[int, bytes] = {}

    def part(self, start: int, end: int | None = None) -> Reader:
        """Return a part of these bytes as a file of its own."""
        end = self.end if end is None else end
        return Reader(self.raw, self.start + start, self.start + end)

    def limit(self, end: int) -> None:
        """Let the bytes end earlier."""
        self.end = self.claimed_end = end

    def read(self, size: int) -> bytes:
        if self.at > self.end:  # a read beyond a claimed end must not look like the end
            return bytes(size) if self.claimed_end > self.end else b""
        size, data = min(size, self.end - self.at), b""
        try:
            self.raw.seek(self.start + self.at)
            while len(data) < size and (more := self.raw.read(size - len(data))):
                data += more  # a short read is not the end
        except (OSError, TypeError, ValueError) as error:
            self.failure = f"reading failed ({error})"
        for at, patch in self.patches.items():
            first, last = max(at, self.at), min(at + len(patch), self.at + len(data))
            if first < last:
                seen = patch[first - at : last - at]
                data = data[: first - self.at] + seen + data[last - self.at :]
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.claimed_end)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def peek(self, at: int, size: int) -> bytes:
        """Return bytes at a place, as they are stored, without going there."""
        if not 0 <= at < self.end:
            return b""
        kept, self.at = self.at, at
        data = self.read(min(size, self.end - at))
        self.at = kept
        return data

    def blocks(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield (place, bytes) from `start` on; each block overlaps the next by `OVERLAP_BYTES`."""
        for at in range(start, self.end, SCAN_BYTES):
            yield at, self.peek(at, SCAN_BYTES + OVERLAP_BYTES)

    def ignore_length(self, hidden: int | None) -> None:
        if hidden is not None:
            self.patches[hidden] = bytes(4)
        self.claimed_end = self.end * 1024


class Pipe:
    """Bytes as they come, read once from front to back; `kind` is the container to decode."""

    def __init__(self, raw: Any, kind: str = "") -> None:
        self.raw, self.kind, self.failure, self.head = raw, kind, "", b""

    def peek(self, size: int) -> bytes:
        """Return the first bytes, which are read again later; fewer only at the end."""
        while len(self.head) < size and (more := self.raw.read(size - len(self.head))):
            self.head += more
        return self.head[:size]

    def read(self, size: int) -> bytes:
        """Return `size` bytes, however slowly they come; fewer only at the end."""
        data, self.head = self.head[:size], self.head[size:]
        while len(data) < size and (more := self.raw.read(size - len(data))):
            data += more
        return data

    def read_some(self, size: int) -> bytes:
        """Read at most so many bytes, as soon as there are any. Decoders call this."""
        if self.head:
            return self.read(min(size, len(self.head)))
        at_once = self.raw.read1 if hasattr(self.raw, "read1") else self.raw.read
        try:
            return bytes(at_once(size))
        except (OSError, ValueError) as error:
            self.failure = f"reading failed ({error})"
            return b""


def open_reader(origin: Origin, source: Any, stack: ExitStack) -> Reader:
    """Open a path, bytes or a file object, and check how many bytes it holds."""
    limit = origin.limits.max_bytes
    if isinstance(source, str | os.PathLike):
        raw: Any = stack.enter_context(_open_path(origin, source))
    elif isinstance(source, bytes | bytearray | memoryview):
        raw = io.BytesIO(source)
    elif not hasattr(source, "read"):
        problem = f"{type(source).__name__} is not a path, bytes, file object, array or tensor"
        raise origin.error(problem, _instead(source), Reason.ARGUMENT)
    else:
        raw = source
    try:
        if raw is source and not getattr(source, "seekable", lambda: False)():
            raw, limit = io.BytesIO(), min(limit, MOST_PIPED_BYTES)
            while raw.tell() <= limit and (data := source.read(2**20)):
                raw.write(data)
        reader = Reader(raw)
    except (OSError, TypeError, ValueError) as error:
        cure = "Open it again, in mode 'rb'"
        raise origin.error(f"reading failed ({error})", cure, Reason.DAMAGED) from error
    if reader.end > limit:
        cure = "Pass limits=DecodeLimits(max_bytes=...) if you trust it, and a file, not a pipe"
        raise origin.error(f"more than {limit:,} bytes", cure, Reason.TOO_LONG)
    if not reader.end:
        raise origin.error("0 bytes", "Record or download it again", Reason.EMPTY)
    return reader


def _instead(source: Any) -> str:
    """Return what to pass instead of a value that is no source."""
    if isinstance(source, tuple) and len(source) == 2:
        return "Pass the samples alone, and their rate as sampling_rate=..."
    if isinstance(source, Iterable):
        return "Pass one source; several go to transcribe_many, and numbers into np.array first"
    return "Pass one of these"


def _open_path(origin: Origin, path: str | os.PathLike[str]) -> io.FileIO:
    if isinstance(path, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", path):
        cure = "Download the file first, and give its path"
        raise origin.error("nothing is fetched from the network", cure, Reason.URL)
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return io.FileIO(path)
    except FileNotFoundError as error:
        cure = f"Check the path; the current folder is {Path.cwd()}"
        raise origin.error("no such file", cure, Reason.NO_FILE) from error
    except PermissionError as error:
        cure = "Type: chmod u+r on the file"
        raise origin.error("no permission to read it", cure, Reason.NO_PERMISSION) from error
    except (OSError, ValueError) as error:
        cure = "Check the path"
        raise origin.error(f"cannot be opened ({error})", cure, Reason.NOT_OPENED) from error
    # opening a pipe or a device could block for ever
    cure = "Pass a file, or the bytes from the pipe"
    raise origin.error("a folder, pipe or device", cure, Reason.NOT_A_FILE)


def scale(values: NDArray[Any]) -> Block:
    """Turn any sample type into float32 in ±1 (unsigned 8-bit is centred on 128)."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # beyond float32 becomes Inf, which is refused
            return values.astype(np.float32)
    floats = values.astype(np.float32)
    full_scale = np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    return (floats - full_scale if values.dtype.kind == "u" else floats) / full_scale
