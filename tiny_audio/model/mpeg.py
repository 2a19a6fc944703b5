"""Following frames of MPEG audio (mp3) from header to header, without decoding.

Decoders stop or skip where a file changes its rate, where files were joined, or where bytes are
damaged, and do not say so. The frames tell it: each run has one format and one beginning.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .source import SCAN_BYTES, Reader

_RATES = np.array([[11025, 12000, 8000], [1, 1, 1], [22050, 24000, 16000], [44100, 48000, 32000]])
_KBIT = {
    "1": (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    "2": (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    "3": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "low 1": (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    "low": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
CHAIN = 3  # so many frames in a row are no accident
_INFO_OFFSETS = (13, 21, 36)  # of a Xing or Info mark behind the start of its frame
Format = tuple[int, int, int]  # rate, channels, samples a frame


@dataclass
class Run:
    """Frames of one format in a row, from byte `start` to byte `end`."""

    start: int
    end: int
    rate: int
    channels: int
    samples_a_frame: int
    num_frames: int = 0

    @property
    def shape(self) -> Format:
        return self.rate, self.channels, self.samples_a_frame

    @property
    def seconds(self) -> float:
        return self.num_frames * self.samples_a_frame / self.rate


Frames = dict[int, tuple[int, Format]]  # place of a header -> bytes of the frame, and its format


def frames_in(data: bytes) -> Frames:
    """Yield what looks like a frame's header; most that look so by chance form no chain."""
    values = np.frombuffer(data, np.uint8)
    if len(values) < 4:
        return {}
    sync = np.flatnonzero((values[:-3] == 0xFF) & (values[1:-2] >= 0xE0))
    second, third, mode = values[sync + 1], values[sync + 2], values[sync + 3] >> 6
    version, layer = second >> 3 & 3, 4 - (second >> 1 & 3)
    kbit, rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    good = (version != 1) & (layer != 4) & (kbit % 15 != 0) & (rate != 3)
    columns = (sync, version, layer, kbit, rate, padding, mode)
    return {at: _frame(*header) for at, *header in zip(*(c[good].tolist() for c in columns))}  # noqa: B905


@functools.cache  # of 4 bytes there are few kinds
def _frame(
    version: int, layer: int, kbit: int, rate: int, padding: int, mode: int
) -> tuple[int, Format]:
    full = version == 3
    table = str(layer) if full else "low 1" if layer == 1 else "low"
    hz, bits = int(_RATES[version, rate]), 1000 * _KBIT[table][kbit]
    samples = 384 if layer == 1 else 1152 if full or layer == 2 else 576
    size = (12 * bits // hz + padding) * 4 if layer == 1 else samples // 8 * bits // hz + padding
    return size, (hz, 1 if mode == 3 else 2, samples)


def _chained(frames: Frames, at: int, size: int, last: bool) -> bool:
    """Tell whether a chain of frames of one format begins there; at the end fewer will do."""
    _, shape = frames[at]
    for number in range(CHAIN):
        if at == size and last and number:
            return True
        if at not in frames or frames[at][1] != shape:
            return False
        at += frames[at][0]
    return True


def first_run(data: bytes, last: bool) -> int | None:
    """Return where the first chain of frames begins; `last` says that the data ends the file."""
    frames = frames_in(data)
    return next((at for at in frames if _chained(frames, at, len(data), last)), None)


def runs(reader: Reader, start: int) -> Iterator[Run]:
    """Yield all runs of frames from `start` on; what lies between them is no frame."""
    run: Run | None = None
    at = start
    for base, data in reader.blocks(start):
        last = base + len(data) == reader.end
        frames = frames_in(data)
        infos = {m.start() - n for m in re.finditer(rb"Xing|Info", data) for n in _INFO_OFFSETS}
        until = len(data) if last else min(SCAN_BYTES, len(data))
        places = iter(sorted(frames))
        while at - base < until:
            here = at - base
            size, shape = frames.get(here, (0, (0, 0, 0)))
            goes_on = run is not None and shape == run.shape
            if size and goes_on and here not in infos:
                assert run is not None
                run.num_frames += 1
                at = run.end = min(at + size, reader.end)
                continue
            if run is not None:
                yield run
                run = None
            found = _next_chain(frames, places, here, until, len(data), last)
            at = base + found
            if found < until:
                size, shape = frames[found]
                at = min(at + size, reader.end)
                run = Run(base + found, at, *shape, 1)
        if last:
            break
    if run is not None:
        yield run


def _next_chain(
    frames: Frames, places: Iterator[int], here: int, until: int, size: int, last: bool
) -> int:
    """Return the next place from `here` on where a chain begins; `until` if there is none."""
    if here in frames and _chained(frames, here, size, last):
        return here
    for at in places:
        if here < at < until and _chained(frames, at, size, last):
            return at
    return until
