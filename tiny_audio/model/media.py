"""Containers that FFmpeg reads through PyAV: m4a, mp4, webm, mkv and others.

The time stamps of the container are the time: sound that begins 4 s into a video is preceded by 4 s
of silence, and where packets are missing there is silence, so that all that follows keeps its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .containers import MEDIA
from .errors import AudioError, MissingExtra, Reason
from .source import BLOCK_VALUES, Chunk, DamageError, Decoded, Origin, Pipe, Reader, scale

CONVERT = "Convert it with: ffmpeg -i FILE -ac 1 -ar 16000 out.wav"
FETCH = "Fetch it again; if another program plays it: ffmpeg -i FILE -ac 1 -ar 16000 out.wav"
# The smallest hole in the time stamps that is filled: recorders' stamps are off by some 20 ms.
GAP_S = 0.05
GAP_BYTES = 256  # of headers may lie between two packets
# Containers whose time stamps are stored; in the others they are counted from the packets.
TIMED = {"mov", "matroska", "asf", "flv", "mpegts", "mpeg"}
FROM_ZERO = {"mov", "matroska"}  # whose time begins at 0; streams may begin anywhere
HELD_BYTES = 2**15  # of samples, joined to a block
# FFmpeg's types of samples; a "p" behind them is "planar": every channel has a plane of its own.
_DTYPES = {
    name + planar: np.dtype(dtype)
    for name, dtype in {
        "u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8",
    }.items()
    for planar in ("", "p")
}  # fmt: skip
MOST_LATE_S = 600.0  # sound that begins later, in a file without a length, is a stream's clock


class _Forward:
    """A pipe as PyAV reads it: it cannot seek."""

    def __init__(self, pipe: Pipe) -> None:
        self.read = pipe.read_some


def pyav(what: str = "Reading this container") -> Any:
    """PyAV, of the extra `media`. The only import of it: whoever loads these files as a model's
    own code is asked by transformers for each library that is imported without a way around.
    """
    try:  # transformers asks for what a model's files import otherwise
        import av
    except ImportError as error:
        raise MissingExtra(what, "media") from error
    return av


def open_media(origin: Origin, reader: Reader | Pipe, kind: str, stack: ExitStack) -> Decoded:
    """Open a container; from a pipe it is decoded while it arrives."""
    av = pyav(f"{origin.name}: reading {kind}")
    timeline: _Timeline | None = None
    try:
        if isinstance(reader, Reader):
            reader.seek(0)
        closed = {"protocol_whitelist": "none"}  # files and URLs named inside stay closed
        container = stack.enter_context(
            av.open(
                _Forward(reader) if isinstance(reader, Pipe) else reader,
                mode="r",
                format=MEDIA.get(kind, kind),
                options=closed,
                metadata_errors="replace",
            )
        )
        if not container.streams.audio:
            raise origin.error("video without sound", "Check the recording", Reason.NOT_AUDIO)
        track = choose_track(origin, container)
        timeline = _Timeline(origin, container, track, kind)
        chunks = _chunks(timeline, reader)
        first = next(chunks, None)
    except AudioError:
        raise
    except (av.FFmpegError, ValueError, OverflowError, DamageError) as error:
        why = reader.failure or getattr(error, "strerror", str(error))
        if timeline and timeline.unknown:
            problem = f"{kind} that cannot be read ({timeline.unknown})"
            raise origin.error(problem, CONVERT, Reason.CODEC) from error
        raise origin.error(f"{kind} that cannot be read ({why})", FETCH, Reason.DAMAGED) from error
    if first is None:
        cure, reason = (CONVERT, Reason.CODEC) if timeline.unknown else (FETCH, Reason.DAMAGED)
        problem = f"{kind} that cannot be read ({timeline.unknown or 'no samples'})"
        raise origin.error(problem, cure, reason)
    rate, block = first
    promised = None if timeline.ends_s is None else int(timeline.ends_s * rate)
    return Decoded(_from_first(first, chunks), rate, block.shape[1], promised)


def _from_first(first: Chunk, rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from rest


def choose_track(origin: Origin, container: Any) -> Any:
    """Choose the track that is asked for, or the container's default, and note further ones."""
    av = pyav()

    tracks = container.streams.audio
    default = [n for n, t in enumerate(tracks) if t.disposition & av.stream.Disposition.default]
    number = origin.track or (default[0] + 1 if default else 1)
    if number > len(tracks):
        have = "1 audio track" if len(tracks) == 1 else f"{len(tracks)} audio tracks"
        cure = f"Use a track from 1 to {len(tracks)}" if len(tracks) > 1 else "Leave track out"
        raise origin.error(f"there is no track {number}: it has {have}", cure, Reason.TRACK)
    if len(tracks) > 1:
        listed = ", ".join(f"{n} ({_described(t)})" for n, t in enumerate(tracks, 1))
        others = f"; others with --track {2 if number == 1 else 1}" if not origin.track else ""
        text = f"{len(tracks)} audio tracks: {listed}; this is track {number}{others}"
        origin.note(text, Reason.TRACKS)
    return tracks[number - 1]


def _described(track: Any) -> str:
    language = track.metadata.get("language", "und")
    title = track.metadata.get("title", "")
    codec = track.codec_context
    parts = [codec.name if codec else "unknown codec", language if language != "und" else "", title]
    if codec and track.channels:
        parts.append(f"{track.channels} channel{'s' if track.channels > 1 else ''}")
    return ", ".join(part for part in parts if part)


@dataclass
class _Timeline:
    """The time of a track as its container states it, and how far the sound has come."""

    origin: Origin
    container: Any
    track: Any
    kind: str
    done_s: float = 0.0  # of sound and silence so far
    shift_s: float | None = None  # time stamp of 0; None before the first packet
    ends_s: float | None = field(init=False)
    alone: bool = field(init=False)  # in its container
    num_bad: int = 0  # packets that could not be decoded
    lost_s: float = 0.0  # in them
    bad_s: float = 0.0  # in them, and not yet filled with silence
    at_end: bool = False  # whether the last packet is one of them: the file was cut
    unknown: str = ""
    num_bytes: int = 0  # of packets so far
    packet_end: int = 0  # in the file
    skipped: int = 0  # bytes before the last packet that belong to none

    def __post_init__(self) -> None:
        av = pyav()

        track, container = self.track, self.container
        self.alone = len(container.streams) == 1
        total = container.duration / av.time_base if container.duration else None
        begins_s = max(0, container.start_time or 0) / av.time_base
        self.total_s = total + begins_s if total else None  # of MP4 the one begins at the other
        self.ends_s = None
        if self.kind in ("mov", "asf") and track.duration and track.time_base:
            self.ends_s = float(track.duration * track.time_base)
            if self.kind == "mov" and track.start_time:
                self.ends_s += float(track.start_time * track.time_base)
        elif self.kind == "matroska" and total and len(container.streams) == 1:
            self.ends_s = total
        if track.codec_context is None:
            self.unknown = "a codec that FFmpeg does not know"

    def take(self, packet: Any) -> None:
        """Follow where packets lie in the file: what lies between them may be damaged."""
        self.num_bytes += packet.size
        if self.alone and (at := packet.pos) is not None and at >= 0:
            self.skipped = at - self.packet_end if self.packet_end else 0
            self.packet_end = at + packet.size

    def late_s(self, frame: Any) -> float:
        """Return the seconds of silence before this frame; time stamps may jump back."""
        if self.kind not in TIMED or (stamp_s := frame.time) is None:
            return 0.0
        if self.shift_s is None:
            self.shift_s = self._zero_s(stamp_s)
        late_s = stamp_s - self.shift_s - self.done_s
        if late_s < -2 * GAP_S:
            text = (
                f"time stamps jump back {-late_s:.2f} s at {self.done_s:.2f} s: the sound goes on"
            )
            self.origin.note(text, Reason.TIME)
            self.shift_s = stamp_s - self.done_s
        elif late_s > GAP_S and self.total_s and self.done_s + late_s > self.total_s + 1:
            text = f"time stamps jump beyond the end at {self.done_s:.2f} s: the sound goes on"
            self.origin.note(text, Reason.TIME)
            self.shift_s = stamp_s - self.done_s
            late_s = 0.0
        return late_s if late_s > GAP_S else 0.0

    def _zero_s(self, stamp_s: float) -> float:
        av = pyav()

        begins_s = (self.container.start_time or 0) / av.time_base
        most_s = self.total_s or MOST_LATE_S
        if self.kind in FROM_ZERO and stamp_s < most_s:
            return 0.0
        if begins_s > MOST_LATE_S:
            text = f"its time stamps begin at {begins_s:,.0f} s: times are counted from there"
            self.origin.note(text, Reason.TIME)
        return begins_s

    def note_gap(self, gap_s: float) -> None:
        """Note what the silence in the place of missing packets is."""
        if self.bad_s or gap_s < 2 * GAP_S:
            return
        if self.skipped > GAP_BYTES + 0.5 * gap_s * self.num_bytes / (self.done_s or gap_s):
            text = f"damaged: {self.skipped:,} bytes at {self.done_s:.2f} s could not be read"
            self.origin.lose(f"{text}: {gap_s:.2f} s of silence", 0.0, gap_s)
            return
        if not self.done_s:
            text = f"its sound begins {gap_s:.2f} s after the file: silence until then"
        else:
            text = f"{gap_s:.2f} s without packets from {self.done_s:.2f} s on: silence"
        self.origin.note(text, Reason.TIME)

    def silence(
        self, seconds: float, rate: int, channels: int
    ) -> Iterator[tuple[_Kind, bytes | memoryview]]:
        num_left = round(seconds * rate)
        size = max(1, BLOCK_VALUES // channels)
        kind = _Kind(rate, channels, _DTYPES["flt"])
        while num_left > 0:
            yield kind, bytes(min(size, num_left) * channels * kind.dtype.itemsize)
            num_left -= size
        self.done_s += seconds

    def close(self) -> None:
        """Add up the packets that could not be decoded."""
        if self.num_bad:
            packets = "packet" if self.num_bad == 1 else "packets"
            text = f"damaged: {self.num_bad} {packets} could not be decoded"
            at_end_s = self.bad_s if self.at_end else 0.0
            self.origin.lose(text, at_end_s, self.lost_s - at_end_s, damaged=self.at_end)


class _Kind(NamedTuple):
    """The rate, channels and type of samples. Frames are joined while they are equal."""

    rate: int
    channels: int
    dtype: np.dtype[Any]

    def chunk(self, data: bytearray) -> Chunk:
        return self.rate, scale(np.frombuffer(data, self.dtype).reshape(-1, self.channels))


def _chunks(timeline: _Timeline, reader: Reader | Pipe) -> Iterator[Chunk]:
    """Yield sound and silence in the container's time, in blocks of some thousand samples.

    The bytes of short frames are joined before they become an array: 1024 samples are usual in AAC,
    and a hostile file has one in each.
    """
    av = pyav()

    held, kind = bytearray(), _Kind(0, 0, _DTYPES["flt"])
    damage = ""
    try:
        for next_kind, data in _timed(timeline):
            if held and next_kind != kind:
                yield kind.chunk(held)
                held = bytearray()
            kind = next_kind
            held += data
            if len(held) >= HELD_BYTES:
                yield kind.chunk(held)
                held = bytearray()
    except (av.FFmpegError, ValueError) as error:
        damage = f"damaged ({getattr(error, 'strerror', error)})"
    if held:
        yield kind.chunk(held)
    if reader.failure:
        raise DamageError(reader.failure)
    timeline.close()
    if damage:
        raise DamageError(damage)


def _timed(timeline: _Timeline) -> Iterator[tuple[_Kind, bytes | memoryview]]:
    """Yield the bytes of decoded frames, with silence where the time stamps leave a hole."""
    shape, kind = (0, 0, ""), _Kind(0, 0, _DTYPES["flt"])
    pack: Any = None
    for frame in _frames(timeline):
        now = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
        if now != shape:
            shape, alone = now, now[1] == 1
            # a planar frame has a plane for each channel
            pack = None if alone else pyav().AudioResampler(format="flt")
            kind = _Kind(now[0], now[1], _DTYPES[now[2] if alone else "flt"])
        gap_s = timeline.late_s(frame) or timeline.bad_s
        if gap_s:
            timeline.note_gap(gap_s)
            yield from timeline.silence(gap_s, kind.rate, kind.channels)
        timeline.bad_s = 0.0
        for packed in pack.resample(frame) if pack else (frame,):
            timeline.done_s += packed.samples / kind.rate
            num_bytes = packed.samples * kind.channels * kind.dtype.itemsize
            yield kind, memoryview(packed.planes[0])[:num_bytes]


def _frames(timeline: _Timeline) -> Iterator[Any]:
    """Yield the frames of a track; a packet that cannot be decoded is counted and passed over."""
    av = pyav()

    for packet in timeline.container.demux(timeline.track):
        timeline.take(packet)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, av.error.DecoderNotFoundError):
                timeline.unknown = "a codec that FFmpeg does not know"
                raise
            if isinstance(error, av.error.PatchWelcomeError):
                timeline.unknown = "FFmpeg does not know all of its codec"
            seconds = float((packet.duration or 0) * packet.time_base) if packet.time_base else 0.0
            timeline.bad_s += seconds
            timeline.lost_s += seconds
            timeline.num_bad += 1
            timeline.at_end = True
            continue
        timeline.at_end = timeline.at_end and not frames
        yield from frames
