"""Repairing headers of uncompressed containers that announce less, or more, than there is.

A recorder that crashed leaves a size of 0, a long recording one that wrapped at 4 GiB, a pipe one
that is unknown; two files joined byte by byte have a header in the middle. What the header says is
compared with the bytes that are there, and the bytes are right.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .containers import next_beginning, skip_tags, sniff
from .source import Reader

MOST_CHUNKS = 100_000
UNKNOWN_SIZES = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000))  # live recordings
_PRINTABLE = re.compile(rb"[ -~\xa9]{4}")
_OPTIONAL = {
    b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"cue ", b"smpl", b"fact", b"PEAK", b"afsp",
    b"_PMX", b"JUNK", b"junk", b"PAD ", b"FLLR", b"axml", b"inst", b"plst", b"DISP", b"umid",
}  # fmt: skip


class _Size(NamedTuple):
    """A size field: its place, how it is written, and what it counts besides the samples."""

    at: int
    order: str
    more: int = 0


class Region(NamedTuple):
    """The place of a file's samples, what its header announces in bytes (None: it does not know),
    where another recording begins behind them, and the size field as it should be.
    """

    start: int
    end: int
    announced: int | None
    next: int
    field: _Size

    @property
    def true_size(self) -> bytes:
        """Return what should stand at `field.at`; a small field gets the most it can hold."""
        bits = 8 * struct.calcsize(self.field.order) - (self.field.order[1] == "q")
        size = min(self.end - self.start + self.field.more, 2**bits - 1)
        return struct.pack(self.field.order, size)


class _Chunks(NamedTuple):
    """The way in which a container writes its chunks."""

    first: int  # place of the first one
    name: int  # bytes of a name
    size: str  # of struct
    align: int
    sound: bytes  # name of the chunk with the samples
    inside: int = 0  # bytes between the chunk's head and the samples
    counts_head: bool = False


_CONTAINERS = {
    "wav": _Chunks(12, 4, "<I", 2, b"data"),
    "rifx": _Chunks(12, 4, ">I", 2, b"data"),
    "aiff": _Chunks(12, 4, ">I", 2, b"SSND", 8),
    "caf": _Chunks(8, 4, ">q", 1, b"data", 4),
    "w64": _Chunks(40, 16, "<q", 8, b"data", 0, True),
}


def find_region(kind: str, reader: Reader) -> Region | None:
    """Find the samples, if the header and the bytes disagree or more follows; return None if the
    header is right, is unknown to us, or ends in nothing.
    """
    if kind == "au":
        start, size = struct.unpack(">II", reader.peek(4, 8).ljust(8, b"\0"))
        sound = (start, size, _Size(8, ">I")) if 24 <= start <= reader.end else None
        how = None
    elif kind in ("wav", "aiff", "caf", "w64"):
        how = _CONTAINERS["rifx" if reader.peek(0, 4) == b"RIFX" else kind]
        sound = _sound_chunk(reader, how)
    else:
        return None
    if sound is None:
        return None
    start, size, field = sound
    there = reader.end - start
    unknown = size < 0 or (size > there and any(size in sizes for sizes in UNKNOWN_SIZES))
    if unknown or not 0 < size <= there:
        return _unsized(reader, how, start, None if unknown else size, field)
    return _sized(reader, how, start, size, field)


def _sound_chunk(reader: Reader, how: _Chunks) -> tuple[int, int, _Size] | None:
    """Return the start of the samples, their announced bytes, and where that number stands."""
    wide: tuple[int, _Size] | None = None
    for name, start, size in _chunks(reader, how, how.first):
        if name == b"ds64":
            (value,) = struct.unpack("<q", reader.peek(start + 8, 8).ljust(8, b"\0"))
            wide = value, _Size(start + 8, "<q")
        if name == how.sound:
            inside = how.inside
            if how.sound == b"SSND":
                inside += int.from_bytes(reader.peek(start, 4), "big")
            head = how.name + struct.calcsize(how.size)
            more = inside + (head if how.counts_head else 0)
            field = _Size(start - struct.calcsize(how.size), how.size, more)
            if size == 0xFFFFFFFF and wide is not None:
                size, field = wide
            return start + inside, size - inside if size > 0 else size, field
    return None


def _chunks(reader: Reader, how: _Chunks, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start of the contents, size) of each chunk; the last may reach too far."""
    head = how.name + struct.calcsize(how.size)
    for _ in range(MOST_CHUNKS):
        data = reader.peek(at, head)
        if len(data) < head or not _PRINTABLE.match(data):
            return
        (size,) = struct.unpack(how.size, data[how.name :])
        size -= head if how.counts_head else 0
        yield data[:4], at + head, size
        if size < 0:
            return
        at += head + size
        at += -at % how.align


def _unsized(
    reader: Reader, how: _Chunks | None, start: int, size: int | None, field: _Size
) -> Region | None:
    """Treat a header that announces nothing, does not know, or announces more than there is."""
    if size == 0 and (start >= reader.end or _is_tail(reader, how, start)):
        return None
    end = next_beginning(reader, start)
    if size and end == reader.end:
        return None  # cut off
    return Region(start, end, size, end, field)


def _sized(
    reader: Reader, how: _Chunks | None, start: int, size: int, field: _Size
) -> Region | None:
    """Treat a header that announces as much as there is, or less."""
    end = start + size
    behind = [end, end + 1] if size % 2 else [end]
    for at in behind:
        if _is_tail(reader, how, at):
            return None
        if next_beginning(reader.part(0, min(reader.end, at + 64)), at) == at:
            return Region(start, end, size, at, field)
    for wrapped in range(end + 2**32, reader.end + 1, 2**32):
        if _is_tail(reader, how, wrapped):
            return Region(start, wrapped, size, reader.end, field)
    following = next_beginning(reader, start)
    return Region(start, following, size, following, field)


def _is_tail(reader: Reader, how: _Chunks | None, at: int) -> bool:
    """Tell whether nothing, or only chunks and tags that are no sound, follow from a place on."""
    if reader.end - at < 2 or skip_tags(reader, at)[0] >= reader.end:
        return True
    if how is None:
        return False
    end = at
    for name, start, size in _chunks(reader, how, at):
        if name == how.sound or sniff(name):
            return False
        end = start + size
        if end > reader.end:
            return name in _OPTIONAL
    return at < end and reader.end - end <= how.align


def endian(kind: str, reader: Reader) -> str:
    """Return the order of the bytes in a sample, as soundfile calls it."""
    head = reader.peek(0, 4096)
    if kind == "aiff":
        return "LITTLE" if head[8:12] == b"AIFC" and b"sowt" in head else "BIG"
    if kind == "caf":
        return "LITTLE" if head[35:36] and head[35] & 2 else "BIG"
    return "BIG" if kind == "au" or head[:4] == b"RIFX" else "LITTLE"
