"""Files as blocks of samples: what `audio.py` reads from when a source is not an array.

What a file is, its first bytes say; its name is never asked. libsndfile reads wav, flac, mp3, ogg
and opus; PyAV, an extra, reads m4a, aac and webm. Both stop without a word in some damaged files;
what can be known about it is checked here.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from .errors import AudioError, MissingExtra

BLOCK_VALUES = 2**14  # values (frames x channels) decoded at once

Block = NDArray[np.float32]  # (frames, channels), or (frames,) once mono


MOST_PIPED_BYTES = 2**30  # a pipe cannot be read twice, so it is held in memory


@dataclass(frozen=True)
class DecodeLimits:
    """What one source may cost. Half an hour is 115 MB: with torch loaded, a process below 1 GB."""

    max_seconds: float = 1_800.0
    max_bytes: int = 2**30


@dataclass
class Origin:
    """What messages call a source, what it may cost, and what decoding has noted about it."""

    name: str
    limits: DecodeLimits
    notes: list[str] = field(default_factory=list)

    def error(self, problem: str, cure: str) -> AudioError:
        """The error of this source."""
        return AudioError(f"{self.name}: {problem}. {cure}.")


@dataclass
class Decoded:
    """An open source: blocks (frames, channels), and how many frames its header announces."""

    blocks: Iterator[Block]
    rate: int
    channels: int
    promised: int | None = None


class DamageError(Exception):
    """Decoding stopped before the end of the data."""


def open_file(origin: Origin, source: Any, stack: ExitStack) -> Decoded:
    """Open a path, the bytes of a file or a file object; `stack` closes it."""
    return _open_decoder(origin, _open_reader(origin, source, stack), stack)


class _Reader:
    """The bytes of a file as the decoders see them: no name, no exceptions.

    An exception inside a decoder's callback would be printed and lost; it is kept in `failure`.
    `ignore_length` makes an mp3 look 1024 times longer and blanks the length header at `hidden`:
    libsndfile stops at the length it guesses, which for variable bit rates was a third of the clip.
    """

    def __init__(self, raw: Any) -> None:
        self.raw, self.failure, self.at, self.hidden = raw, "", 0, -4
        self.end = self.claimed_end = int(raw.seek(0, os.SEEK_END))

    def read(self, size: int) -> bytes:
        if self.at > self.end:  # past a claimed end: what is read there must not look like an end
            return bytes(size)
        data = b""
        try:
            self.raw.seek(self.at)
            while len(data) < size and (more := self.raw.read(size - len(data))):
                data += more  # a short read is not the end
        except (OSError, TypeError, ValueError) as error:
            self.failure = f"reading failed ({error})"
        for at in range(max(self.hidden, self.at), min(self.hidden + 4, self.at + len(data))):
            data = data[: at - self.at] + b"\0" + data[at - self.at + 1 :]
        self.at += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.claimed_end)[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def ignore_length(self, hidden: int) -> None:
        self.hidden, self.claimed_end = hidden, self.end * 1024


def _open_reader(origin: Origin, source: Any, stack: ExitStack) -> _Reader:
    """Open a path, bytes or a file object, and check how many bytes it holds."""
    limit = origin.limits.max_bytes
    if isinstance(source, str | os.PathLike):
        raw: Any = stack.enter_context(_open_path(origin, source))
    elif isinstance(source, bytes | bytearray | memoryview):
        raw = io.BytesIO(source)
    elif not hasattr(source, "read"):
        problem = f"{type(source).__name__} is not a path, bytes, file object, array or tensor"
        raise origin.error(problem, "Pass one of these")
    else:
        raw = source
    try:
        if raw is source and not getattr(source, "seekable", lambda: False)():
            raw, limit = io.BytesIO(), min(limit, MOST_PIPED_BYTES)
            while raw.tell() <= limit and (data := source.read(2**20)):
                raw.write(data)
        reader = _Reader(raw)
    except (OSError, TypeError, ValueError) as error:
        raise origin.error(f"reading failed ({error})", "Open it again, in mode 'rb'") from error
    if reader.end > limit:
        cure = "Pass limits=DecodeLimits(max_bytes=...) if you trust it, and a file, not a pipe"
        raise origin.error(f"more than {limit:,} bytes", cure)
    if not reader.end:
        raise origin.error("0 bytes", "Record or download it again")
    return reader


def _open_path(origin: Origin, path: str | os.PathLike[str]) -> io.FileIO:
    if isinstance(path, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", path):
        raise origin.error("URLs are not fetched", "Download it first and pass the path")
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return io.FileIO(path)
    except FileNotFoundError as error:
        raise origin.error("no such file", f"Check the path; now in {Path.cwd()}") from error
    except PermissionError as error:
        raise origin.error("no permission to read it", "Type: chmod u+r on the file") from error
    except (OSError, ValueError) as error:
        raise origin.error(f"cannot be opened ({error})", "Check the path") from error
    # opening a pipe or a device could block for ever
    raise origin.error("a folder, pipe or device", "Pass a file, or the bytes from the pipe")


# First bytes -> kind, for libsndfile. Its other formats are rare, and random bytes look like them.
_MAGIC = {
    b"RIFF": "wav", b"RF64": "wav", b"RIFX": "wav", b"riff": "wav", b"FORM": "aiff", b".snd": "au",
    b"caff": "caf", b"fLaC": "flac", b"OggS": "ogg", b"NIST": "sphere",
}  # fmt: skip
_MEDIA = {"mov", "matroska", "aac"}  # demuxers of FFmpeg, always named so that it never guesses


def _sniff(reader: _Reader) -> tuple[str, int, bytes]:
    """Kind of a file by its first bytes ("" if unknown), where audio starts, the bytes there."""
    start, head = 0, reader.read(4096)
    if head[:3] == b"ID3" and len(head) >= 10:
        size = sum(bits << 7 * at for at, bits in enumerate(reversed(head[6:10])))  # 4 x 7 bits
        start = 10 + size
        reader.seek(start)
        head = reader.read(4096)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov", start, head
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska", start, head
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xE0 == 0xE0:
        return ("mp3" if head[1] & 0x06 else "aac"), start, head  # layer 0 is ADTS
    return _MAGIC.get(head[:4], ""), start, head


class _Forward(soundfile.SoundFile):
    """A sound file read once from front to back: the base class would seek after every block."""

    def seekable(self) -> bool:
        return False


def _open_decoder(origin: Origin, reader: _Reader, stack: ExitStack) -> Decoded:
    kind, start, head = _sniff(reader)
    reader.seek(0)
    if kind in _MEDIA:
        return _open_media(origin, reader, kind, stack)
    if reader.failure:
        raise origin.error(reader.failure, "Open it again, in mode 'rb'")
    if not kind:
        problem = f"not audio that can be read (starts with {head[:8]!r})"
        raise origin.error(problem, "Expected wav, flac, mp3, ogg, opus, m4a, aac or webm")
    length_known = kind != "mp3" or _trust_mp3_length(reader, start, head)
    try:
        file = stack.enter_context(_Forward(reader))
    except soundfile.LibsndfileError as error:
        problem = f"{kind} that cannot be read ({_why(error)})"
        raise origin.error(problem, "Fetch it again") from error
    promised = _promised_frames(file, head) if length_known else None
    blocks = _file_blocks(origin, file, reader, kind)
    return Decoded(blocks, file.samplerate, file.channels, promised)


def _trust_mp3_length(reader: _Reader, start: int, head: bytes) -> bool:
    """Whether the Xing header of an mp3 tells its length; if not, the decoder may not use it.

    Without the header libsndfile guesses from the first frames; joined files keep the first header.
    """
    at = max(head.find(b"Xing"), head.find(b"Info"))
    field_at = at + 12 if at >= 0 and head[at + 7 : at + 8] and head[at + 7] & 3 == 3 else -1
    num_bytes = int.from_bytes(head[field_at : field_at + 4], "big") if field_at >= 0 else 0
    known = at >= 0 and (field_at < 0 or reader.end - start - num_bytes < 4096)
    if not known:
        reader.ignore_length(hidden=start + at if at >= 0 else -4)
    return known


def _file_blocks(origin: Origin, file: _Forward, reader: _Reader, kind: str) -> Iterator[Block]:
    size = max(1, BLOCK_VALUES // file.channels)
    try:
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise DamageError(reader.failure or f"damaged ({_why(error)})") from error
    if kind == "ogg":
        reader.seek(max(64, reader.at - 2**17))  # the decoder read ahead of where it stopped
        pages = re.findall(rb"OggS\0(.)", reader.read(2**18), re.DOTALL)
        if any(flags[0] & 2 for flags in pages):  # 2 begins a stream, 4 ends it
            raise DamageError("several ogg streams joined, of which only the first can be read")
        if pages and not pages[-1][0] & 4:
            origin.notes.append("no end mark: it may have been cut off")
    if reader.failure:
        raise DamageError(reader.failure)


def _why(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").rstrip(".")


# libsndfile quietly corrects a data size that the file does not hold, but says so in its log.
_CORRECTED = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)", re.M
)
_UNKNOWN = (range(0x7FFFF000, 0x80000001), range(0xFFFFF000, 0x100000000))  # live recordings


def _promised_frames(file: _Forward, head: bytes) -> int | None:
    """Frames that the header announces; None where it does not say."""
    if sphere := re.match(rb"NIST_1A\s[^\0]*sample_count -i (\d+)", head):
        return int(sphere[1])
    if found := _CORRECTED.search(file.extra_info):
        announced, actual = int(found[1]), int(found[2])
        unknown = any(announced in sizes for sizes in _UNKNOWN)
        return None if unknown else file.frames * announced // max(1, actual)
    return file.frames if file.frames < 2**62 else None


def _open_media(origin: Origin, reader: _Reader, kind: str, stack: ExitStack) -> Decoded:
    try:
        import av
    except ImportError as error:
        raise MissingExtra(f"Reading {origin.name} ({kind})", "media") from error
    try:
        closed = {"protocol_whitelist": "none"}  # files and URLs named inside stay closed
        container = stack.enter_context(
            av.open(reader, mode="r", format=kind, options=closed, metadata_errors="replace")
        )
        if not container.streams.audio:
            raise origin.error("video without sound", "Check the recording")
        track = container.streams.audio[0]
        frames = container.decode(track)
        first = next(frames)
    except (av.FFmpegError, StopIteration) as error:
        why = getattr(error, "strerror", "no samples")
        raise origin.error(f"{kind} that cannot be read ({why})", "Fetch it again") from error
    seconds = 0.0
    if kind != "aac" and track.duration and track.time_base:  # aac only guesses its length
        seconds = float(track.duration * track.time_base)
    elif kind != "aac" and container.duration and not container.streams.video:
        seconds = container.duration / av.time_base
    rate, channels = first.sample_rate, first.layout.nb_channels
    return Decoded(_media_blocks(first, frames, reader), rate, channels, int(seconds * rate))


def _media_blocks(first: Any, frames: Iterator[Any], reader: _Reader) -> Iterator[Block]:
    import av

    shape = (first.sample_rate, first.layout.nb_channels)
    # to_ndarray() of a planar frame of 8 or more channels reads past the planes and crashes (18.1)
    pack, held, damage = av.AudioResampler(format="flt"), list[Block](), ""
    try:
        for frame in chain([first], frames):
            if (frame.sample_rate, frame.layout.nb_channels) != shape:
                raise ValueError("its rate or channels change midway")
            for packed in pack.resample(frame):
                held.append(scale(packed.to_ndarray().reshape(-1, shape[1])))
            if sum(map(len, held)) >= 8192:  # frames are short: 1024 samples in AAC
                yield np.concatenate(held)
                held.clear()
    except (av.FFmpegError, ValueError) as error:
        damage = f"damaged ({getattr(error, 'strerror', error)})"
    yield from held
    if damage or reader.failure:
        raise DamageError(reader.failure or damage)


def scale(values: NDArray[Any]) -> Block:
    """Any sample type to float32 in ±1 (unsigned 8-bit is centred on 128)."""
    with np.errstate(over="ignore"):  # beyond float32 becomes Inf, which is refused
        floats = values.astype(np.float32)
    if values.dtype.kind == "f":
        return floats
    full_scale = np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    return (floats - full_scale if values.dtype.kind == "u" else floats) / full_scale
