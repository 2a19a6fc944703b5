"""Reading live sound from a pipe: raw 16 bits, WAV as recorders write it, or a piped file.

Files (mp3, webm, ogg, flac …) are decoded while they arrive. What is no sound is refused: taken for
raw samples it would be noise, and nothing would be written.
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tiny_audio.model.audio import SAMPLE_RATE, stream_audio
from tiny_audio.model.containers import kind_of_stream
from tiny_audio.model.errors import AudioError, Reason
from tiny_audio.model.source import Pipe

BLOCK_S = 0.1
HEAD_BYTES = 4096  # 0.13 s of raw sound, and three frames of most mp3
MOST_HEADER_BYTES = 2**16


def read_sound(pipe: BinaryIO, rate: int, notes: list[str]) -> tuple[int, Iterator[Any]]:
    """Return the sampling rate and the samples as they come, 100 ms a block; `notes` are added.

    `rate` is that of raw sound. A header's length is not believed, as a recorder does not know it.
    Raises `AudioError` for an empty pipe, for what is no sound, and for a WAV of other than 16 bits
    and one channel; `MissingExtra` for a file without the extra that decodes it.
    """
    source = Pipe(pipe)
    head = source.peek(HEAD_BYTES)
    kind = kind_of_stream(head, len(head) < HEAD_BYTES)
    if not head:
        raise AudioError("stdin: 0 bytes. Check the program that writes into it.", Reason.EMPTY)
    if kind == "foreign":
        cure = "Expected sound: raw 16 bits, wav, mp3, ogg, flac or webm"
        raise AudioError(f"stdin: not audio (starts with {head[:8]!r}). {cure}.", Reason.NOT_AUDIO)
    if kind == "wav" and head[:4] == b"RIFF":
        rate = _wav_rate(source)
    elif kind:
        source.kind = kind
        return SAMPLE_RATE, _decoded(source, notes)
    return rate, _blocks(source, max(1, round(BLOCK_S * rate)), notes)


def _decoded(source: Pipe, notes: list[str]) -> Iterator[Any]:
    """Decode a file while it arrives; what is left when the decoder has ended is an error."""
    yield from stream_audio(source, block_s=BLOCK_S, notes=notes, allow_truncated=True)
    num_left = 0
    while more := source.read(2**16):
        num_left += len(more)
    if num_left:
        raise AudioError(
            f"stdin: {num_left:,} bytes follow that cannot be decoded as they come. "
            "Save it to a file and type: tiny-audio transcribe FILE.",
            Reason.LEFT_OVER,
        )


def _wav_rate(pipe: Pipe) -> int:
    """Read up to the samples of a WAV file."""
    pipe.read(12)  # RIFF, its size, and WAVE
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
                    "expected 1 channel of 16 bits. Record with: arecord -f S16_LE -c 1 -r 16000.",
                    Reason.CODEC,
                )
    message = "stdin: a WAV header without samples. Record with: arecord -f S16_LE."
    raise AudioError(message, Reason.NO_SAMPLES)


def _blocks(pipe: Pipe, block: int, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    while data := pipe.read(2 * block):
        if len(data) % 2:
            notes.append("stdin: the last byte is half a sample")
        if len(data) >= 2:
            yield np.frombuffer(data[: len(data) // 2 * 2], "<i2")
