"""Steps 1 and 2 of the path: a file, bytes or an array becomes `samples_N`.

The order is fixed: decode (`decode.py`), float32, mono, soxr HQ, target rate. It runs block by
block, so half an hour of 44.1 kHz stereo costs the memory of its 16 kHz mono result (115 MB) and
nothing more. URLs are never fetched.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray

from .decode import open_file
from .errors import AudioError, Reason
from .media import open_media
from .source import BLOCK_VALUES, Block, Chunk, Decoded, DecodeLimits, Origin, Pipe, scale

SAMPLE_RATE = 16_000
MIN_RATE, MAX_RATE, MAX_CHANNELS = 1_000, 384_000, 64
MAX_PEAK = 100.0  # 40 dB over full scale: not audio in ±1, most likely unscaled integers
CLIPPED_SHARE, LOST_DB = 1e-3, 10.0
# In 16 bits hardly a word is lost at a peak of -40 dB (of full scale), and many are at -60 dB.
QUIET_PEAK = 10 ** (-50 / 20)

LOAD_LIMITS = DecodeLimits()
# A stream holds one block, so only patience bounds it: one day, and the PCM file of that day.
STREAM_LIMITS = DecodeLimits(max_seconds=86_400.0, max_bytes=2**35)


@dataclass(frozen=True)
class Audio:
    """`samples_N`, 1-D float32 mono of about ±1, that carry their rate.

    `source` names where they came from; `notes` says what decoding lost or changed, each with its
    reason and the seconds that are missing (`source.Note`).
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
    track: int | None = None,
    allow_truncated: bool = False,
    limits: DecodeLimits = LOAD_LIMITS,
) -> Audio:
    """Decode anything that holds audio to mono float32 at `target_rate`.

    `source` is a path, the bytes of a file, a binary file object (read from its start), a numpy
    array or torch tensor of shape (N,), (channels, N) or (N, channels) with its `sampling_rate`, a
    dict with `array` and `sampling_rate` or with `bytes` or `path`, or an `Audio`. Channels are
    averaged unless `channel` (from 0) picks one; `track` (from 1) takes another audio track.
    The result has N * target_rate / rate samples, within one. Raises `AudioError` (what is wrong,
    what to do), `MissingExtra` for m4a, aac, webm without PyAV.
    """
    origin = Origin(source_name(source), limits, track=track)
    job = _Job(source, sampling_rate, target_rate, channel, allow_truncated, origin)
    buffer = bytearray()  # grows in place; joining a list of blocks would need twice the memory
    for block in job.blocks():
        buffer += block.data
    samples = torch.frombuffer(buffer, dtype=torch.float32)
    return Audio(samples, int(target_rate), origin.name, tuple(origin.notes))


def stream_audio(
    source: Any,
    sampling_rate: int | None = None,
    *,
    block_s: float = 30.0,
    target_rate: int = SAMPLE_RATE,
    channel: int | None = None,
    track: int | None = None,
    allow_truncated: bool = False,
    limits: DecodeLimits = STREAM_LIMITS,
    notes: list[str] | None = None,
) -> Iterator[torch.Tensor]:
    """Yield what `load_audio` returns as tensors of `block_s` seconds, the last one shorter.

    Memory does not grow with the length of the source, but for the bytes of a pipe. Errors are
    those of `load_audio`; one found late (damage, a limit) is raised after the whole blocks before
    it. What `Audio.notes` would say is appended to `notes` by the time the last block is yielded.
    """
    if not block_s * target_rate >= 1:
        message = f"block_s={block_s} holds no sample. Use block_s=30."
        raise AudioError(message, Reason.ARGUMENT)
    origin = Origin(source_name(source), limits, [] if notes is None else notes, track)
    job = _Job(source, sampling_rate, target_rate, channel, allow_truncated, origin)
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
class _Job:
    """One pass over a source; `notes` is complete when `blocks` has ended."""

    source: Any
    rate: int | None
    target_rate: int
    channel: int | None
    allow_truncated: bool
    origin: Origin
    power_in: float = 0.0
    power_out: float = 0.0
    num_clipped: int = 0
    peak: float = 0.0
    num_values: int = 0
    read_s: float = 0.0

    def blocks(self) -> Iterator[Block]:
        """Yield non-empty mono blocks at the target rate."""
        target_rate, num_out = _whole_rate(self.target_rate, "target_rate"), 0
        with ExitStack() as stack:
            decoded = _open(self, self.source, self.rate, stack)
            self._check_header(decoded)
            for out in self._resampled(decoded, target_rate):
                num_out += len(out)
                if len(out):
                    yield out
        if not num_out:
            cure = "Give at least 0.1 s of sound"
            raise self.origin.error("shorter than one sample", cure, Reason.NO_SAMPLES)
        self._note_levels()

    def _resampled(self, decoded: Decoded, target_rate: int) -> Iterator[Block]:
        """Resample to mono at the target rate; where the rate of the file changes, begin anew."""
        rate = 0
        resampler: soxr.ResampleStream | None = None
        for chunk_rate, block in self._until_end(decoded):
            if chunk_rate != rate:
                if resampler:
                    yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
                rate = chunk_rate
                resampler = None
                if rate != target_rate:
                    resampler = soxr.ResampleStream(rate, target_rate, 1, "float32", "HQ")
            out = np.ascontiguousarray(self._mono(block))
            yield resampler.resample_chunk(out, last=not len(block)) if resampler else out

    def _until_end(self, decoded: Decoded) -> Iterator[Chunk]:
        """Yield the checked chunks, then an empty one once the end is known to be right."""
        rate, channels = decoded.rate, decoded.channels
        for next_rate, block in decoded.chunks:
            if next_rate != rate:
                text = f"its sampling rate changes from {rate} to {next_rate} Hz"
                self.origin.note(f"{text} at {self.read_s:.2f} s", Reason.JOINED)
            if (next_rate, block.shape[1]) != (rate, channels):
                rate, channels = next_rate, block.shape[1]
                self._check_shape(rate, channels)
            self._check_values(block)
            self.read_s += len(block) / rate
            self._check_limit(self.read_s)
            yield rate, block
        self._check_end()
        yield rate, np.empty((0, channels), np.float32)

    def _check_header(self, decoded: Decoded) -> None:
        self._check_shape(decoded.rate, decoded.channels)
        if not self.allow_truncated:  # the announced length may be wrong, the read one is not
            self._check_limit((decoded.promised or 0) / decoded.rate)

    def _check_shape(self, rate: int, channels: int) -> None:
        _whole_rate(rate, self.origin.name)
        if not 1 <= channels <= MAX_CHANNELS:
            problem = f"{channels} channels, expected 1 to {MAX_CHANNELS}"
            cure = "Mix or split it with an audio editor first"
            raise self.origin.error(problem, cure, Reason.CHANNELS)
        if self.channel is not None and not 0 <= self.channel < channels:
            cure = f"Use a channel from 0 to {channels - 1}"
            problem = f"there is no channel={self.channel}"
            raise self.origin.error(problem, cure, Reason.CHANNELS)

    def _check_limit(self, seconds: float) -> None:
        if seconds > self.origin.limits.max_seconds + 1e-3:
            limit = f"the limit is {self.origin.limits.max_seconds:,.0f} s"
            cure = "Use stream_audio(...), or limits=DecodeLimits(max_seconds=...) if you trust it"
            raise self.origin.error(f"{seconds:,.0f} s long and {limit}", cure, Reason.TOO_LONG)

    def _check_values(self, block: Block) -> None:
        peak = float(np.abs(block).max(initial=0.0))  # NaN and Inf come through the maximum
        if not np.isfinite(peak):
            cure = "Export it again; np.nan_to_num(samples) only hides the damage"
            problem = f"NaN or Inf in the samples after {self.read_s:.2f} s"
            raise self.origin.error(problem, cure, Reason.NOT_FINITE)
        if peak > MAX_PEAK:
            cure = "Divide by full scale (32768 for 16 bits), or pass the integer array"
            problem = f"float samples reach {peak:.4g}, expected about 1"
            raise self.origin.error(problem, cure, Reason.SCALE)
        self.num_values += block.size
        self.peak = max(self.peak, peak)
        if peak >= 0.999:
            self.num_clipped += int((np.abs(block) >= 0.999).sum())

    def _check_end(self) -> None:
        """Refuse a source of which much is missing, or that is damaged, unless that is allowed."""
        origin, read_s = self.origin, self.read_s
        if not read_s:
            cure = "Record or export it again"
            reason = Reason.DAMAGED if origin.problem else Reason.NO_SAMPLES
            raise origin.error(origin.problem or "no samples in it", cure, reason)
        much = origin.lost_s > 0.5 or origin.lost_s > max(0.05, 0.1 * read_s)
        if (origin.damaged or much) and not self.allow_truncated:
            cure = "Fetch it again, or pass allow_truncated=True (--allow-truncated) to take those"
            problem = f"{origin.problem}; the first {read_s:.2f} s are readable"
            raise origin.error(problem, cure, Reason.DAMAGED)

    def _mono(self, block: Block) -> Block:
        if self.channel is not None or block.shape[1] == 1:
            return block[:, self.channel or 0]
        mono: Block = block.mean(axis=1)
        self.power_in += float(np.vdot(block, block)) / block.shape[1]
        self.power_out += float(np.vdot(mono, mono))
        return mono

    def _note_levels(self) -> None:
        if 0 < self.peak < QUIET_PEAK:
            level = 20 * np.log10(self.peak)
            text = f"very quiet: the loudest sample lies {level:.0f} dB below full scale"
            self.origin.note(f"{text}, so words may be lost; record it louder", Reason.LEVEL)
        if self.power_out * 10 ** (LOST_DB / 10) < self.power_in:
            lost = f"the mono mixdown lost more than {LOST_DB:g} dB (channels cancel or are silent)"
            self.origin.note(f"{lost}; pass channel=0 (--channel 0) to take one", Reason.LEVEL)
        if self.num_clipped > CLIPPED_SHARE * self.num_values:
            share = self.num_clipped / self.num_values
            text = f"clipped: {share:.1%} of the values are at full scale"
            self.origin.note(text, Reason.LEVEL)


def _open(job: _Job, source: Any, rate: int | None, stack: ExitStack) -> Decoded:
    """Open any source: arrays, a dict around one, or the bytes of a file."""
    if isinstance(source, Audio):
        job.origin.notes.extend(source.notes)
        source, rate = source.samples, source.sampling_rate
    if isinstance(source, Mapping):
        inner = [source[key] for key in ("array", "bytes", "path") if source.get(key) is not None]
        if not inner:
            cure = "Pass the dict of one sound, as row['audio'] of a data set is"
            problem = "there is neither 'array' nor 'bytes' nor 'path' in the dict"
            raise job.origin.error(problem, cure, Reason.ARGUMENT)
        return _open(job, inner[0], source.get("sampling_rate", rate), stack)
    if isinstance(source, torch.Tensor):
        if source.is_meta or source.layout != torch.strided:
            problem = f"a tensor without plain values ({source.device}, {source.layout})"
            raise job.origin.error(problem, "Pass a dense tensor with values", Reason.ARGUMENT)
        source = source.detach().cpu()  # numpy has no bfloat16
        source = (source.float() if source.dtype == torch.bfloat16 else source).numpy(force=True)
    if isinstance(source, np.ndarray):
        return _open_array(job, source, rate)
    if isinstance(source, Pipe):
        return open_media(job.origin, source, source.kind, stack)
    decoded = open_file(job.origin, source, stack)
    if rate is not None and rate != decoded.rate:
        problem = f"its rate is {decoded.rate} Hz but sampling_rate={rate} was given"
        cure = "Leave sampling_rate out: a file carries its own"
        raise job.origin.error(problem, cure, Reason.ARGUMENT)
    return decoded


def _open_array(job: _Job, values: NDArray[Any], rate: int | None) -> Decoded:
    if rate is None:
        raise job.origin.error(
            "no sampling_rate", "Pass it: load_audio(array, sampling_rate=16000)", Reason.ARGUMENT
        )
    if not values.size:
        cure = "Check how the array was made"
        raise job.origin.error("no samples in it", cure, Reason.NO_SAMPLES)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or (values.shape[0] == values.shape[1] > 1):
        problem = f"shape {values.shape} is neither (N,) nor (channels, N) nor (N, channels)"
        cure = "Pass one clip; for several call load_audio on each"
        raise job.origin.error(problem, cure, Reason.ARGUMENT)
    values = values.T if values.shape[0] < values.shape[1] else values
    if values.dtype.kind != "f" and values.dtype.name not in ("uint8", "int8", "int16", "int32"):
        cure = "Pass float in ±1, or uint8, int8, int16 or int32 at full scale"
        problem = f"dtype {values.dtype} has no known full scale"
        raise job.origin.error(problem, cure, Reason.ARGUMENT)
    size = max(1, BLOCK_VALUES // values.shape[1])
    rate = _whole_rate(rate, job.origin.name)
    chunks = ((rate, scale(values[at : at + size])) for at in range(0, len(values), size))
    return Decoded(chunks, rate, values.shape[1])


def _whole_rate(rate: Any, what: str) -> int:
    """Return `rate` as an int between 1 and 384 kHz, or raise `AudioError`."""
    number = isinstance(rate, int | float | np.number) and not isinstance(rate, bool)
    if not number or not MIN_RATE <= rate <= MAX_RATE or rate != int(rate):
        expected = f"expected a whole number from {MIN_RATE} to {MAX_RATE}"
        cure = "Check the header, or pass the true sampling_rate with the array"
        raise AudioError(f"{what}: sampling rate {rate!r} Hz, {expected}. {cure}.", Reason.RATE)
    return int(rate)


def source_name(source: Any) -> str:
    """Return what messages call a source."""
    if isinstance(source, Audio):
        return source.source
    if isinstance(source, Pipe):
        return "stdin"
    if isinstance(source, str | os.PathLike):
        return str(os.fspath(source))[:200] or "''"
    if isinstance(source, Mapping):
        return str(source.get("path") or "<dict>")[:200]
    if isinstance(source, io.IOBase) and isinstance(name := getattr(source, "name", None), str):
        return name.strip("<>")[:200] or "<file>"
    return f"<{type(source).__name__}>"
