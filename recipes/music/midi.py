"""A Standard MIDI File of one track, written byte by byte (format 0), with time in seconds."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

TICKS = 960  # of a second, which is one quarter note at 60 a minute
DRUMS = 9  # the channel of percussion in General MIDI


class Note(NamedTuple):
    """A note: when it begins and how long it is; pitch and velocity as MIDI counts them."""

    start: float
    length: float
    pitch: int
    velocity: int = 80
    channel: int = 0


class Program(NamedTuple):
    """From when on a channel has which instrument of General MIDI (from 0)."""

    start: float
    channel: int
    program: int


def midi_file(notes: Iterable[Note], programs: Iterable[Program]) -> bytes:
    """The bytes of a file with these notes on these instruments."""
    events = [(0, 0, _meta(0x51, (1_000_000).to_bytes(3, "big")))]
    for start, channel, program in programs:
        events.append((round(start * TICKS), 2, bytes([0xC0 | channel, program])))
    for note in notes:
        start, stop = round(note.start * TICKS), round((note.start + note.length) * TICKS)
        events.append((start, 3, bytes([0x90 | note.channel, note.pitch, note.velocity])))
        events.append((stop, 1, bytes([0x80 | note.channel, note.pitch, 0])))
    track = _track(sorted(events))
    header = struct.pack(">4sIHHH", b"MThd", 6, 0, 1, TICKS)
    return header + struct.pack(">4sI", b"MTrk", len(track)) + track


def _track(events: Sequence[tuple[int, int, bytes]]) -> bytes:
    found, before = bytearray(), 0
    for at, _, data in events:
        found += number(at - before) + data
        before = at
    return bytes(found + number(0) + _meta(0x2F, b""))


def _meta(kind: int, data: bytes) -> bytes:
    return bytes([0xFF, kind]) + number(len(data)) + data


def number(value: int) -> bytes:
    """A number of variable length: seven bits a byte, all but the last with the eighth set."""
    found = [value & 0x7F]
    while value := value >> 7:
        found.append(0x80 | value & 0x7F)
    return bytes(reversed(found))
