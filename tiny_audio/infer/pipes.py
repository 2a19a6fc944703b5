"""Live 16-bit sound from a pipe: raw, or with the WAV header that recorders put before it."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from tiny_audio.model.errors import AudioError

BLOCK_S = 0.1
MOST_HEADER_BYTES = 2**16


def read_pcm(pipe: BinaryIO, rate: int) -> tuple[int, Iterator[NDArray[np.int16]]]:
    """The sampling rate and the samples as they come, 100 ms a block.

    `rate` is that of raw sound. A header's length is not believed, as a recorder does not know it.
    Raises `AudioError` for a WAV of other than 16 bits and one channel.
    """
    first = pipe.read(4)
    if first == b"RIFF":
        rate, first = _wav_rate(pipe), b""
    return rate, _blocks(pipe, first, max(1, round(BLOCK_S * rate)))


def _wav_rate(pipe: BinaryIO) -> int:
    """Read up to the samples of a WAV file."""
    pipe.read(8)  # its size, and "WAVE"
    rate = None
    while len(head := pipe.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data" and rate is not None:
            return int(rate)
        if size > MOST_HEADER_BYTES:
            break
        body = pipe.read(size + size % 2)
        if name == b"fmt " and len(body) >= 16:
            coding, channels, rate, *_, bits = struct.unpack("<HHIIHH", body[:16])
            if (channels, bits) != (1, 16) or coding not in (1, 0xFFFE):
                raise AudioError(
                    f"stdin: a WAV of {channels} channel(s), {bits} bits, coding {coding}; "
                    "expected 1 channel of 16 bits. Record with: arecord -f S16_LE -c 1 -r 16000."
                )
    raise AudioError("stdin: a WAV header without samples. Record with: arecord -f S16_LE.")


def _blocks(pipe: BinaryIO, first: bytes, block: int) -> Iterator[NDArray[np.int16]]:
    held = first
    while more := pipe.read(2 * block - len(held)):
        held += more
        whole = len(held) // 2 * 2
        yield np.frombuffer(held[:whole], "<i2")
        held = held[whole:]
    if len(held) >= 2:
        yield np.frombuffer(held[: len(held) // 2 * 2], "<i2")
