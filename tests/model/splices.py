"""Clips in eight containers, and random surgery on their bytes and time stamps.

Each case says how many seconds of sound are in the file, so that a test can compare them with what
was read and what was noted as missing.
"""

from __future__ import annotations

import functools
import io
import random
import struct
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from sounds import encode

SOUNDFILE = {
    "wav": ("WAV", "PCM_16"), "au": ("AU", "PCM_16"), "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "flac": ("FLAC", "PCM_16"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
MEDIA = {"m4a": ("mp4", "aac"), "webm": ("webm", "libopus"), "mkv": ("matroska", "aac")}
CONTAINERS = ("wav", "au", "flac", "ogg", "mp3", "m4a", "webm", "mkv")
RATES = (16_000, 24_000, 48_000)
LENGTHS_S = (0.8, 1.3, 2.1)
ID3 = b"ID3\x04\x00\x00"


@dataclass
class Case:
    """The bytes of a file, the seconds of sound and pauses in it, and what was done to it."""

    data: bytes
    seconds: float
    deeds: str
    exact: bool = True  # False: the container does not tell how much was cut away


def sound(seconds: float, rate: int) -> np.ndarray:
    """Noise that swells and fades, so that no frame is empty and a cut falls in its middle."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(round(seconds * 1000)).standard_normal(len(times))
    return (0.1 * noise * (1.2 + np.sin(2 * np.pi * 3 * times))).clip(-0.9, 0.9).astype(np.float32)


@functools.cache
def clip(container: str, seconds: float, rate: int) -> bytes:
    """A plain file."""
    if container in MEDIA:
        return muxed(container, seconds, rate)
    return encode(sound(seconds, rate), rate, *SOUNDFILE[container])


def muxed(
    container: str, seconds: float, rate: int, late_s: float = 0.0,
    gaps: tuple[tuple[float, float], ...] = (), video_s: float = 0.0, tracks: int = 1,
) -> bytes:  # fmt: skip
    """A file of FFmpeg's: sound that begins late, and pauses (at, how long) without packets."""
    name, codec = MEDIA[container]
    rate = 48_000 if codec == "libopus" else rate
    out = io.BytesIO()
    with av.open(out, "w", format=name) as sink:
        picture = sink.add_stream("mpeg4", rate=10) if video_s else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        streams = [sink.add_stream(codec, rate=rate, layout="mono") for _ in range(tracks)]
        packets = []
        for _ in range(round(video_s * 10)) if picture else ():
            packets += picture.encode(av.VideoFrame(32, 32, "yuv420p"))
        packets += picture.encode(None) if picture else []
        for number, track in enumerate(streams):
            values = sound(seconds, rate) if number == tracks - 1 else np.zeros(rate, np.float32)
            frame = av.AudioFrame.from_ndarray(values[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
            for packet in [*track.encode(frame), *track.encode(None)]:
                if packet.pts is None:
                    continue  # the end mark of the encoder
                at_s = float(packet.pts * packet.time_base)
                more_s = late_s + sum(long_s for start_s, long_s in gaps if at_s >= start_s)
                packet.pts += int(Fraction(more_s).limit_denominator(1000) / packet.time_base)
                packet.dts = packet.pts
                packets.append(packet)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            sink.mux(packet)
    return out.getvalue()


def length_s(container: str, seconds: float, rate: int) -> float:
    """Seconds that a plain file of this kind holds: AAC comes in whole frames."""
    return -(-seconds * rate // 1024) * 1024 / rate if container in ("m4a", "mkv") else seconds


def spliced(container: str, seed: int) -> Case:
    """One random case."""
    chance = random.Random(f"{container} {seed}")
    rate, seconds = chance.choice(RATES), chance.choice(LENGTHS_S)
    data, total_s = clip(container, seconds, rate), length_s(container, seconds, rate)
    deeds = [f"{seconds} s at {rate}"]
    if container in MEDIA and chance.random() < 0.5:
        late_s = chance.choice((0.0, 0.4, 2.0))
        gap_s = chance.choice((0.0, 0.3, 1.5))
        video_s = chance.choice((0.0, 3.0)) if container != "webm" else 0.0
        data = muxed(container, seconds, rate, late_s, ((seconds / 2, gap_s),), video_s)
        total_s += late_s + gap_s
        deeds.append(f"{late_s} s late, a pause of {gap_s} s, {video_s} s of video")
    case = Case(data, total_s, "; ".join(deeds))
    for _ in range(chance.choice((0, 1, 1, 2))):
        more_rate, more_s = chance.choice((rate, *RATES)), chance.choice(LENGTHS_S)
        case.data += clip(container, more_s, more_rate)
        case.seconds += length_s(container, more_s, more_rate)
        case.deeds += f"; joined with {more_s} s at {more_rate}"
    deed = chance.choice(("none", "prepend", "size", "cut", "append"))
    return {"prepend": prepended, "size": resized, "cut": cut, "append": appended}.get(
        deed, lambda case, *_: case
    )(case, container, chance)


def prepended(case: Case, container: str, chance: random.Random) -> Case:
    """Tags, zeros, a box or junk before the sound."""
    tag = ID3 + bytes([0, 0, 8, 0]) + chance.randbytes(1024)
    before = chance.choice((tag, tag + tag, bytes(chance.randrange(1, 5000)), b"junk" * 77))
    if container == "m4a":
        before = chance.choice((before, struct.pack(">I4s", 24, b"free") + bytes(16)))
    case.data = before + case.data
    case.deeds += f"; behind {len(before)} bytes {before[:4]!r}"
    return case


def appended(case: Case, container: str, chance: random.Random) -> Case:
    """A tag or zeros behind the sound."""
    after = chance.choice((b"TAG" + bytes(125), bytes(chance.randrange(1, 3000))))
    case.data += after
    case.deeds += f"; before {len(after)} bytes {after[:3]!r}"
    return case


def resized(case: Case, container: str, chance: random.Random) -> Case:
    """A size in the first header that is 0, unknown, too small or wrapped."""
    if container not in ("wav", "au"):
        return case
    at, order = (case.data.index(b"data") + 4, "<I") if container == "wav" else (8, ">I")
    size = chance.choice((0, 0xFFFFFFFF, 2 * chance.randrange(1, 8_000)))
    case.data = case.data[:at] + struct.pack(order, size) + case.data[at + 4 :]
    case.deeds += f"; its header says {size} bytes"
    return case


def cut(case: Case, container: str, chance: random.Random) -> Case:
    """The end is missing: its header still promises it, where there is one."""
    kept = chance.uniform(0.3, 0.98)
    if container in ("m4a",):
        return case  # without its last box it cannot be read
    case.data = case.data[: round(kept * len(case.data))]
    case.deeds += f"; {kept:.2f} of it kept"
    case.exact = container in ("wav", "au", "flac", "mp3") and "joined" not in case.deeds
    return case
