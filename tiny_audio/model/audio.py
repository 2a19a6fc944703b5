"""Steps 1 and 2 of the path: a file, bytes or an array becomes `samples_N`.

The order is fixed: decode, float32, mono, soxr HQ, target rate. It runs block by block, so an hour
of 44.1 kHz stereo costs the memory of its 16 kHz mono result (230 MB) and nothing more. What a file
is, its first bytes say; its name is never asked. URLs are never fetched.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from numpy.typing import NDArray

from .errors import AudioError, MissingExtra

SAMPLE_RATE = 16_000
MIN_RATE, MAX_RATE, MAX_CHANNELS = 1_000, 384_000, 64
MAX_PEAK = 100.0  # 40 dB over full scale: not audio in ±1, most likely unscaled integers
CLIPPED_SHARE, LOST_DB = 1e-3, 10.0
BLOCK_VALUES = 2**14  # values (frames x channels) decoded at once

Block = NDArray[np.float32]  # (frames, channels), or (frames,) once mono


@dataclass(frozen=True)
class DecodeLimits:
    """What one source may cost. An hour is 230 MB: with torch loaded, a process below 1 GB."""

    max_seconds: float = 3_600.0
    max_bytes: int = 2**30


# A stream holds one block, so only patience bounds it: one day, and the PCM file of that day.
STREAM_LIMITS = DecodeLimits(max_seconds=86_400.0, max_bytes=2**35)


@dataclass(frozen=True)
class Audio:
    """`samples_N`, 1-D float32 mono of about ±1, that carry their rate.

    `source` names where they came from; `notes` says what decoding lost or changed.
    """

    samples: torch.Tensor
    sampling_rate: int
    source: str = "<array>"
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sampling_rate


def load_audio(
    source: Any,
    sampling_rate: int | None = None,
    *,
    target_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    allow_truncated: bool = False,
    limits: DecodeLimits = DecodeLimits(),
) -> Audio:
    """Decode anything that holds audio to mono float32 at `target_rate`.

    `source` is a path, the bytes of a file, a binary file object (read from its start), a numpy
    array or torch tensor of shape (N,), (channels, N) or (N, channels) with its `sampling_rate`, a
    dict with `array` and `sampling_rate` or with `bytes` or `path`, or an `Audio`. Channels are
    averaged unless `channel` picks one. The result has N * target_rate / rate samples, within one.
    Raises `AudioError` (what is wrong, what to do), `MissingExtra` for m4a, aac, webm without PyAV.
    """
    job = _Job(source, sampling_rate, target_rate, channel, allow_truncated, limits)
    buffer = bytearray()  # grows in place; joining a list of blocks would need twice the memory
    for block in job.blocks():
        buffer += block.data
    samples = torch.frombuffer(buffer, dtype=torch.float32)
    return Audio(samples, int(target_rate), _name(source), tuple(job.notes))


def stream_audio(
    source: Any,
    sampling_rate: int | None = None,
    *,
    block_s: float = 30.0,
    target_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    allow_truncated: bool = False,
    limits: DecodeLimits = STREAM_LIMITS,
) -> Iterator[torch.Tensor]:
    """Yield what `load_audio` returns as tensors of `block_s` seconds, the last one shorter.

    Memory does not grow with the length of the source. Errors are those of `load_audio`; one found
    late (damage, a limit) is raised after the whole blocks before it.
    """
    if not block_s * target_rate >= 1:
        raise AudioError(f"block_s={block_s} holds no sample. Use block_s=30.")
    job = _Job(source, sampling_rate, target_rate, channel, allow_truncated, limits)
    held, num_held, size = list[Block](), 0, round(block_s * target_rate)
    for block in job.blocks():
        held.append(block)
        num_held += len(block)
        if num_held > size:  # so that the last block is never empty
            *whole, rest = torch.from_numpy(np.concatenate(held)).split(size)
            yield from whole
            held, num_held = [rest.numpy()], len(rest)
    yield torch.from_numpy(np.concatenate(held))


@dataclass
class _Decoded:
    """An open source: blocks (frames, channels), and how many frames its header announces."""

    blocks: Iterator[Block]
    rate: int
    channels: int
    promised: int | None = None


class _DamageError(Exception):
    """Decoding stopped before the end of the data."""


@dataclass
class _Job:
    """One pass over a source; `notes` is complete when `blocks` has ended."""

    source: Any
    rate: int | None
    target_rate: int
    channel: int | None
    allow_truncated: bool
    limits: DecodeLimits
    notes: list[str] = field(default_factory=list)
    power_in: float = 0.0
    power_out: float = 0.0
    num_clipped: int = 0
    num_values: int = 0

    def blocks(self) -> Iterator[Block]:
        """Yield non-empty mono blocks at the target rate."""
        target_rate, num_out = _whole_rate(self.target_rate, "target_rate"), 0
        with ExitStack() as stack:
            decoded = _open(self, self.source, self.rate, stack)
            self._check_header(decoded)
            resampler = soxr.ResampleStream(decoded.rate, target_rate, 1, "float32", "HQ")
            for block in self._until_end(decoded):
                out = np.ascontiguousarray(self._mono(block))
                if target_rate != decoded.rate:
                    out = resampler.resample_chunk(out, last=not len(block))
                num_out += len(out)
                if len(out):
                    yield out
        if not num_out:
            raise self.error("shorter than one sample", "Give at least 0.1 s of sound")
        self._note_levels()

    def _until_end(self, decoded: _Decoded) -> Iterator[Block]:
        """Yield the checked blocks, then an empty one once the end is known to be right."""
        num_frames, damage = 0, ""
        try:
            for block in decoded.blocks:
                self._check_values(block, num_frames / decoded.rate)
                num_frames += len(block)
                self._check_limit(num_frames, decoded.rate)
                yield block
        except _DamageError as error:
            damage = str(error)
        self._check_end(num_frames / decoded.rate, decoded, damage)
        yield np.empty((0, decoded.channels), np.float32)

    def _check_header(self, decoded: _Decoded) -> None:
        _whole_rate(decoded.rate, _name(self.source))
        if not 1 <= decoded.channels <= MAX_CHANNELS:
            problem = f"{decoded.channels} channels, expected 1 to {MAX_CHANNELS}"
            raise self.error(problem, "Mix or split it with an audio editor first")
        if self.channel is not None and not 0 <= self.channel < decoded.channels:
            cure = f"Use a channel from 0 to {decoded.channels - 1}"
            raise self.error(f"there is no channel={self.channel}", cure)
        if not self.allow_truncated:  # the announced length may be wrong, the read one is not
            self._check_limit(decoded.promised or 0, decoded.rate)

    def _check_limit(self, num_frames: int, rate: int) -> None:
        if num_frames > self.limits.max_seconds * rate:
            limit = f"the limit is {self.limits.max_seconds:,.0f} s"
            cure = "Use stream_audio(...), or limits=DecodeLimits(max_seconds=...) if you trust it"
            raise self.error(f"{num_frames / rate:,.0f} s long and {limit}", cure)

    def _check_values(self, block: Block, at_s: float) -> None:
        peak = float(np.abs(block).max(initial=0.0))  # NaN and Inf come through the maximum
        if not np.isfinite(peak):
            cure = "Export it again; np.nan_to_num(samples) only hides the damage"
            raise self.error(f"NaN or Inf in the samples after {at_s:.2f} s", cure)
        if peak > MAX_PEAK:
            cure = "Divide by full scale (32768 for 16 bits), or pass the integer array"
            raise self.error(f"float samples reach {peak:.4g}, expected about 1", cure)
        self.num_values += block.size
        if peak >= 0.999:
            self.num_clipped += int((np.abs(block) >= 0.999).sum())

    def _check_end(self, read_s: float, decoded: _Decoded, damage: str) -> None:
        missing_s = (decoded.promised or 0) / decoded.rate - read_s
        if missing_s > 0.5 or missing_s > max(0.05, 0.1 * read_s):
            damage = damage or f"cut off: its header announces {missing_s + read_s:.2f} s"
        if not read_s:
            raise self.error(damage or "no samples in it", "Record or export it again")
        if damage and not self.allow_truncated:
            cure = "Fetch it again, or pass allow_truncated=True to take those"
            raise self.error(f"{damage}; the first {read_s:.2f} s are readable", cure)
        if damage or missing_s > 0.05:
            self.notes.append(damage or f"{missing_s:.2f} s shorter than its header announces")

    def _mono(self, block: Block) -> Block:
        if self.channel is not None or block.shape[1] == 1:
            return block[:, self.channel or 0]
        mono: Block = block.mean(axis=1)
        self.power_in += float(np.vdot(block, block)) / block.shape[1]
        self.power_out += float(np.vdot(mono, mono))
        return mono

    def _note_levels(self) -> None:
        if self.power_out * 10 ** (LOST_DB / 10) < self.power_in:
            lost = f"the mono mixdown lost more than {LOST_DB:g} dB (channels cancel or are silent)"
            self.notes.append(f"{lost}; pass channel=0 to take one")
        if self.num_clipped > CLIPPED_SHARE * self.num_values:
            share = self.num_clipped / self.num_values
            self.notes.append(f"clipped: {share:.1%} of the values are at full scale")

    def error(self, problem: str, cure: str) -> AudioError:
        """The error of this source."""
        return AudioError(f"{_name(self.source)}: {problem}. {cure}.")


def _open(job: _Job, source: Any, rate: int | None, stack: ExitStack) -> _Decoded:
    """Open any source: arrays, a dict around one, or the bytes of a file."""
    if isinstance(source, Audio):
        job.notes.extend(source.notes)
        source, rate = source.samples, source.sampling_rate
    if isinstance(source, Mapping):
        inner = (source[key] for key in ("array", "bytes", "path") if source.get(key) is not None)
        return _open(job, next(inner, None), source.get("sampling_rate", rate), stack)
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu()  # numpy has no bfloat16
        source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
    if isinstance(source, np.ndarray):
        return _open_array(job, source, rate)
    decoded = _open_file(job, _reader(job, source, stack), stack)
    if rate is not None and rate != decoded.rate:
        problem = f"its rate is {decoded.rate} Hz but sampling_rate={rate} was given"
        raise job.error(problem, "Leave sampling_rate out: a file carries its own")
    return decoded


def _open_array(job: _Job, values: NDArray[Any], rate: int | None) -> _Decoded:
    if rate is None:
        raise job.error("no sampling_rate", "Pass it: load_audio(array, sampling_rate=16000)")
    if not values.size:
        raise job.error("no samples in it", "Check how the array was made")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or (values.shape[0] == values.shape[1] > 1):
        problem = f"shape {values.shape} is neither (N,) nor (channels, N) nor (N, channels)"
        raise job.error(problem, "Pass one clip; for several call load_audio on each")
    values = values.T if values.shape[0] < values.shape[1] else values
    if values.dtype.kind != "f" and values.dtype.name not in ("uint8", "int8", "int16", "int32"):
        cure = "Pass float in ±1, or uint8, int8, int16 or int32 at full scale"
        raise job.error(f"dtype {values.dtype} has no known full scale", cure)
    size = max(1, BLOCK_VALUES // values.shape[1])
    blocks = (_scale(values[at : at + size]) for at in range(0, len(values), size))
    return _Decoded(blocks, _whole_rate(rate, _name(job.source)), values.shape[1])


def _scale(values: NDArray[Any]) -> Block:
    """Any sample type to float32 in ±1 (unsigned 8-bit is centred on 128)."""
    with np.errstate(over="ignore"):  # beyond float32 becomes Inf, which is refused
        floats = values.astype(np.float32)
    if values.dtype.kind == "f":
        return floats
    full_scale = np.float32(2.0 ** (8 * values.dtype.itemsize - 1))
    return (floats - full_scale if values.dtype.kind == "u" else floats) / full_scale


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


def _reader(job: _Job, source: Any, stack: ExitStack) -> _Reader:
    """Open a path, bytes or a file object, and check how many bytes it holds."""
    limit = job.limits.max_bytes
    if isinstance(source, str | os.PathLike):
        raw: Any = stack.enter_context(_open_path(job, source))
    elif isinstance(source, bytes | bytearray | memoryview):
        raw = io.BytesIO(source)
    elif not hasattr(source, "read"):
        problem = f"{type(source).__name__} is not a path, bytes, file object, array or tensor"
        raise job.error(problem, "Pass one of these")
    else:
        raw = source
    try:
        if raw is source and not getattr(source, "seekable", lambda: False)():
            raw = io.BytesIO()
            while raw.tell() <= limit and (data := source.read(2**20)):
                raw.write(data)
        reader = _Reader(raw)
    except (OSError, TypeError, ValueError) as error:
        raise job.error(f"reading failed ({error})", "Open it again, in mode 'rb'") from error
    if reader.end > limit:
        cure = "Pass limits=DecodeLimits(max_bytes=...) if you trust it"
        raise job.error(f"more than {limit:,} bytes", cure)
    if not reader.end:
        raise job.error("0 bytes", "Record or download it again")
    return reader


def _open_path(job: _Job, path: str | os.PathLike[str]) -> io.FileIO:
    if isinstance(path, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", path):
        raise job.error("URLs are not fetched", "Download it first and pass the path")
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return io.FileIO(path)
    except FileNotFoundError as error:
        raise job.error("no such file", f"Check the path; now in {Path.cwd()}") from error
    except PermissionError as error:
        raise job.error("no permission to read it", "Type: chmod u+r on the file") from error
    except (OSError, ValueError) as error:
        raise job.error(f"cannot be opened ({error})", "Check the path") from error
    # opening a pipe or a device could block for ever
    raise job.error("a folder, pipe or device", "Pass a file, or the bytes from the pipe")


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


def _open_file(job: _Job, reader: _Reader, stack: ExitStack) -> _Decoded:
    kind, start, head = _sniff(reader)
    reader.seek(0)
    if kind in _MEDIA:
        return _open_media(job, reader, kind, stack)
    if reader.failure:
        raise job.error(reader.failure, "Open it again, in mode 'rb'")
    if not kind:
        problem = f"not audio that can be read (starts with {head[:8]!r})"
        raise job.error(problem, "Expected wav, flac, mp3, ogg, opus, m4a, aac or webm")
    length_known = kind != "mp3" or _trust_mp3_length(reader, start, head)
    try:
        file = stack.enter_context(_Forward(reader))
    except soundfile.LibsndfileError as error:
        raise job.error(f"{kind} that cannot be read ({_why(error)})", "Fetch it again") from error
    promised = _promised_frames(file, head) if length_known else None
    return _Decoded(_file_blocks(job, file, reader, kind), file.samplerate, file.channels, promised)


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


def _file_blocks(job: _Job, file: _Forward, reader: _Reader, kind: str) -> Iterator[Block]:
    size = max(1, BLOCK_VALUES // file.channels)
    try:
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        raise _DamageError(reader.failure or f"damaged ({_why(error)})") from error
    if kind == "ogg":
        reader.seek(max(64, reader.at - 2**17))  # the decoder read ahead of where it stopped
        pages = re.findall(rb"OggS\0(.)", reader.read(2**18), re.DOTALL)
        if any(flags[0] & 2 for flags in pages):  # 2 begins a stream, 4 ends it
            raise _DamageError("several ogg streams joined, of which only the first can be read")
        if pages and not pages[-1][0] & 4:
            job.notes.append("no end mark: it may have been cut off")
    if reader.failure:
        raise _DamageError(reader.failure)


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


def _open_media(job: _Job, reader: _Reader, kind: str, stack: ExitStack) -> _Decoded:
    try:
        import av
    except ImportError as error:
        raise MissingExtra(f"Reading {_name(job.source)} ({kind})", "media") from error
    try:
        closed = {"protocol_whitelist": "none"}  # files and URLs named inside stay closed
        container = stack.enter_context(
            av.open(reader, mode="r", format=kind, options=closed, metadata_errors="replace")
        )
        if not container.streams.audio:
            raise job.error("video without sound", "Check the recording")
        track = container.streams.audio[0]
        frames = container.decode(track)
        first = next(frames)
    except (av.FFmpegError, StopIteration) as error:
        why = getattr(error, "strerror", "no samples")
        raise job.error(f"{kind} that cannot be read ({why})", "Fetch it again") from error
    seconds = 0.0
    if kind != "aac" and track.duration and track.time_base:  # aac only guesses its length
        seconds = float(track.duration * track.time_base)
    elif kind != "aac" and container.duration and not container.streams.video:
        seconds = container.duration / av.time_base
    rate, channels = first.sample_rate, first.layout.nb_channels
    return _Decoded(_media_blocks(first, frames, reader), rate, channels, int(seconds * rate))


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
                held.append(_scale(packed.to_ndarray().reshape(-1, shape[1])))
            if sum(map(len, held)) >= 8192:  # frames are short: 1024 samples in AAC
                yield np.concatenate(held)
                held.clear()
    except (av.FFmpegError, ValueError) as error:
        damage = f"damaged ({getattr(error, 'strerror', error)})"
    yield from held
    if damage or reader.failure:
        raise _DamageError(reader.failure or damage)


def _whole_rate(rate: Any, what: str) -> int:
    """`rate` as an int between 1 and 384 kHz, or `AudioError`."""
    number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        expected = f"expected a whole number from {MIN_RATE} to {MAX_RATE}"
        cure = "Check the header, or pass the true sampling_rate with the array"
        raise AudioError(f"{what}: sampling rate {rate!r} Hz, {expected}. {cure}.")
    return int(rate)


def _name(source: Any) -> str:
    """How messages call a source."""
    if isinstance(source, Audio):
        return source.source
    if isinstance(source, str | os.PathLike):
        return str(os.fspath(source))[:200] or "''"
    if isinstance(source, Mapping):
        return str(source.get("path") or "<dict>")[:200]
    return f"<{type(source).__name__}>"
